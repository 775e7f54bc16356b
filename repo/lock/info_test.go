package lock

import (
	"encoding/json"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEncode(t *testing.T) {
	info := Info{Time: time.Date(2024, 5, 6, 7, 8, 9, 123456789, time.FixedZone("", 7200)), Exclusive: true, Hostname: "h<ost", Username: "u", PID: 12, UID: 1000, GID: 100}
	got, err := info.encode()
	want := `{"time":"2024-05-06T07:08:09.123456789+02:00","exclusive":true,"hostname":"h\u003cost","username":"u","pid":12,"uid":1000,"gid":100}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v\nwant %s", got, err, want)
	}
	back, err := decode(got)
	if err != nil || !back.Time.Equal(info.Time) {
		t.Errorf("decoded: %+v, %v", back, err)
	}
	back.Time = info.Time
	if diff := cmp.Diff(info, back); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	root, err := Info{Time: time.Unix(0, 0).UTC(), PID: 1}.encode()
	if want := `{"time":"1970-01-01T00:00:00Z","exclusive":false,"hostname":"","username":"","pid":1}`; err != nil || string(root) != want {
		t.Errorf("%s, %v\nwant %s", root, err, want)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"time":"2024-05-06T07:08:09.123456789+02:00","exclusive":true,"hostname":"h","username":"u","pid":12,"uid":1000,"gid":100}`))
	f.Add([]byte(`{"time":"2024-05-06T07:08:09Z","pid":-1,"future":{"a":[]}}`))
	f.Add([]byte(`{"time":null}`))
	f.Add([]byte(`[]`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, p []byte) {
		info, err := decode(p)
		if err != nil {
			return
		}
		if info.Time.IsZero() {
			t.Error("no time")
		}
		info.stale(time.Now(), info.Hostname, func(pid int) (time.Time, bool) {
			if pid <= 0 {
				t.Errorf("asked for process %d", pid)
			}
			return time.Time{}, true
		})
		again, err := info.encode()
		if err != nil {
			t.Fatalf("%+v: %v", info, err)
		}
		back, err := decode(again)
		if err != nil || !back.Time.Equal(info.Time) {
			t.Fatalf("%s: %+v, %v", again, back, err)
		}
		if !json.Valid(p) {
			t.Error("decoded what is no JSON")
		}
	})
}

func TestProcessStart(t *testing.T) {
	ours, alive := processStart(os.Getpid())
	if d := time.Since(ours); !alive || d < 0 || d > time.Hour {
		t.Errorf("this process: %v, %v", ours, alive)
	}
	if _, alive := processStart(1); !alive {
		t.Error("process 1 is dead")
	}
	cmd := exec.CommandContext(t.Context(), "sleep", "1000")
	before := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	start, alive := processStart(pid)
	if d := start.Sub(before); !alive || d < -5*time.Second || d > 30*time.Second {
		t.Errorf("a new process started %v after we began it, alive %v", d, alive)
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// Nobody has waited for it yet: it ends up as a zombie.
	deadline := time.Now().Add(10 * time.Second)
	for alive && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
		_, alive = processStart(pid)
	}
	if alive {
		t.Error("a zombie is alive")
	}
	cmd.Wait()
	if _, alive := processStart(pid); alive {
		t.Error("a process that was waited for is alive")
	}
}

func TestParseStat(t *testing.T) {
	const tail = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21"
	for _, name := range []string{"1 (sleep)", "1 (a b)", "1 (a) S 9 (b))", "1 ()"} {
		if got, err := parseStat(name + tail); err != nil || got != (stat{"S", 4242}) {
			t.Errorf("%q: %+v, %v", name, got, err)
		}
	}
	for _, bad := range []string{"", "1 (x)", "1 (x) S 1 2", "1 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x 20"} {
		if got, err := parseStat(bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}
