package progress

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fixed is a View at two thirds.
type fixed struct{}

func (fixed) Share() (uint64, uint64) { return 2, 3 }
func (fixed) Rate() string            { return "1.0 MiB/s" }
func (fixed) Status() string          { return "2 files" }
func (fixed) Current() []string       { return []string{"/a/b\x1b[31m"} }
func (fixed) Message() any {
	return map[string]any{"message_type": "status", "percent_done": Share(2, 3)}
}

func TestLiveLineWithoutTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := New(Options{Stdout: &out, Stderr: &out})
		stop := p.Live(time.Now(), fixed{})
		time.Sleep(25 * time.Second)
		stop()
		stop()
		if got, want := out.String(), "[0:10] 66.67%  2 files, 1.0 MiB/s\n[0:20] 66.67%  2 files, 1.0 MiB/s\n"; got != want {
			t.Errorf("have %q, want %q", got, want)
		}
	})
}

func TestLiveLinesBecomeRarer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := New(Options{Stdout: &out, Stderr: &out})
		stop := p.Live(time.Now(), fixed{})
		time.Sleep(time.Hour + time.Second)
		stop()
		if n := strings.Count(out.String(), "\n"); n != 6+9+5 {
			t.Errorf("%d lines in an hour", n)
		}
	})
}

func TestLiveQuietSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := New(Options{Stdout: &out, Stderr: &out, Quiet: true, JSON: true, FPS: 1})
		stop := p.Live(time.Now(), fixed{})
		time.Sleep(25 * time.Second)
		stop()
		if out.Len() > 0 {
			t.Errorf("quiet wrote %q", out.String())
		}
	})
}

func TestLiveJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := New(Options{Stdout: &out, Stderr: &out, JSON: true, FPS: 2})
		stop := p.Live(time.Now(), fixed{})
		time.Sleep(1100 * time.Millisecond)
		stop()
		p.Line("for people only")
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 2 {
			t.Fatalf("have %d messages, want 2: %q", len(lines), lines)
		}
		var m map[string]any
		if err := json.Unmarshal([]byte(lines[1]), &m); err != nil || m["message_type"] != "status" {
			t.Errorf("message %q: %v", lines[1], err)
		}
	})
}

func TestBarKeepsLinesAbove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out, errOut bytes.Buffer
		p := New(Options{Stdout: &out, Stderr: &errOut, Terminal: true, FPS: 60})
		stop := p.Live(time.Now(), fixed{})
		p.Line("a line in between")
		p.Warn("a warning")
		time.Sleep(100 * time.Millisecond)
		stop()
		p.Line("the end")
		got := out.String()
		for _, want := range []string{"a line in between\n", "66.67%", "1.0 MiB/s", "2 files", "/a/b?[31m"} {
			if !strings.Contains(got, want) {
				t.Errorf("terminal output lacks %q: %q", want, got)
			}
		}
		if !strings.HasSuffix(got, "the end\n") {
			t.Errorf("output ends in %q", got)
		}
		if errOut.String() != "a warning\n" {
			t.Errorf("stderr is %q", errOut.String())
		}
	})
}

// counter is a View of so many of three.
type counter struct {
	fixed
	done atomic.Uint64
}

func (c *counter) Share() (uint64, uint64) { return c.done.Load(), 3 }

// The last drawing is of the end, with a full bar, also when that came a moment before.
func TestBarIsFullAtTheEnd(t *testing.T) {
	for _, done := range []uint64{0, 2, 3} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			p := New(Options{Stdout: &out, Stderr: &out, Terminal: true, FPS: 10})
			v := &counter{}
			v.done.Store(done)
			stop := p.Live(time.Now(), v)
			time.Sleep(time.Second)
			v.done.Store(3)
			stop()
			bars := regexp.MustCompile(`(\S+)%  \[[^\[\]]*\]`).FindAllString(out.String(), -1)
			if len(bars) == 0 {
				t.Fatalf("no bar in %q", out.String())
			}
			if last := bars[len(bars)-1]; !strings.HasPrefix(last, "100.00%") || strings.Contains(last, " ]") {
				t.Errorf("from %d of 3 on, the last bar is %q", done, last)
			}
		})
	}
}

func TestFit(t *testing.T) {
	for _, c := range []struct {
		in    string
		width int
		want  string
	}{
		{"/short", 20, "/short"}, {"/a\nb", 20, "/a?b"}, {"/0123456789abcdef", 9, "/012…cdef"},
		{"/0123456789abcdef", 0, "/0123456789abcdef"},
	} {
		if got := fit(c.in, c.width); got != c.want {
			t.Errorf("fit(%q, %d) = %q, want %q", c.in, c.width, got, c.want)
		}
	}
}

func TestPrinterLevels(t *testing.T) {
	var out, errOut bytes.Buffer
	p := New(Options{Stdout: &out, Stderr: &errOut, Verbose: 1})
	p.Line("n=%d", 1)
	p.Detail(1, "detail")
	p.Detail(2, "each file")
	p.Message(map[string]int{"a": 1})
	p.ErrorMessage(map[string]int{"b": 2})
	if got := fmt.Sprint(out.String(), errOut.String()); got != "n=1\ndetail\n{\"a\":1}\n{\"b\":2}\n" {
		t.Errorf("have %q", got)
	}
}

// Without lines there is no status but on a terminal and in JSON.
func TestNoLines(t *testing.T) {
	for name, o := range map[string]Options{"lines": {}, "details": {Verbose: 1}, "terminal": {Terminal: true}, "JSON": {JSON: true}} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			o.Stdout, o.Stderr, o.NoLines = &out, &out, true
			p := New(o)
			stop := p.Live(time.Now(), fixed{})
			time.Sleep(time.Hour)
			stop()
			if shown := out.Len() > 0; shown != (o.Terminal || o.JSON) {
				t.Errorf("%s: %q", name, out.String())
			}
			if silent := p.Silence() > time.Hour; silent != (name == "lines") {
				t.Errorf("%s: silent for %v", name, p.Silence())
			}
		})
	}
}

// TestSilence holds what is said about the first update against when that comes.
func TestSilence(t *testing.T) {
	for name, o := range map[string]Options{"lines": {}, "frames": {FPS: 0.1}, "JSON": {JSON: true}, "details": {Verbose: 1}} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			o.Stdout, o.Stderr = &out, &out
			p := New(o)
			stop := p.Live(time.Now(), fixed{})
			time.Sleep(max(0, p.Silence()-time.Millisecond))
			if stop(); out.Len() > 0 {
				t.Errorf("%s: shown before %v: %q", name, p.Silence(), out.String())
			}
			if told := o.JSON || o.Verbose > 0; told != (p.Silence() == 0) {
				t.Errorf("%s: silent for %v", name, p.Silence())
			}
		})
	}
}
