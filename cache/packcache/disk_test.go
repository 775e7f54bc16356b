package packcache

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vitrine/repo/backend"
)

// Whatever happens to a file of the cache, reads give the right bytes, and it is made again.
func TestDamage(t *testing.T) {
	damages := map[string]func(path string) error{
		"gone":     os.Remove,
		"empty":    func(path string) error { return os.Truncate(path, 0) },
		"shorter":  func(path string) error { return os.Truncate(path, 60_000) },
		"longer":   func(path string) error { return os.Truncate(path, 200_000) },
		"too long": func(path string) error { return os.Truncate(path, maxFileBytes+1) },
		"a bit":    func(path string) error { return flip(path, 50_001) },
		"last bit": func(path string) error { return flip(path, 99_999) },
		"another": func(path string) error {
			return os.WriteFile(path, bytes.Repeat([]byte("x"), 100_000), 0o600)
		},
		"a directory": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.Mkdir(path, 0o700)
		},
	}
	for name, damage := range damages {
		for _, running := range []bool{true, false} {
			t.Run(name+map[bool]string{true: " while it is used"}[running], func(t *testing.T) {
				s := newStore(t, 3, 100_000)
				dir := t.TempDir()
				be := open(t, s, dir, 0)
				s.walk(t, be)
				for _, f := range s.files {
					if err := damage(be.disk.path(f)); err != nil {
						t.Fatal(err)
					}
				}
				if !running {
					be = open(t, s, dir, 0)
				}
				// Bytes behind those that a process has verified are never read by it.
				longer := running && (name == "longer" || name == "too long")
				if n := s.walk(t, be); n != 3 && !(longer && n == 2) {
					t.Errorf("%d requests, want the 3 files again", n)
				}
				if n := s.walk(t, be); n != 0 {
					t.Errorf("%d requests after the damage was met, want none", n)
				}
			})
		}
	}
}

// flip changes one bit and nothing else that stat(2) shows of the file.
func flip(path string, at int64) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return err
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b[:], at); err != nil {
		return err
	}
	return os.Chtimes(path, st.ModTime(), st.ModTime())
}

// The user may delete his cache at any time.
func TestDeletedWhileUsed(t *testing.T) {
	s := newStore(t, 6, 50_000)
	dir := filepath.Join(t.TempDir(), "packs")
	be := open(t, s, dir, 0)
	s.walk(t, be)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if n := s.walk(t, be); n != 6 {
		t.Errorf("%d requests, want 6", n)
	}
	if n := s.walk(t, be); n != 0 {
		t.Errorf("%d requests when all is there again", n)
	}
}

func TestBudget(t *testing.T) {
	const size, budget = 100_000, 1_000_000
	s := newStore(t, 90, size)
	dir := t.TempDir()
	be := open(t, s, dir, budget)
	old := time.Now().Add(-time.Hour)
	for i, f := range s.files {
		s.read(t, be, f)
		// Every file is older than those that come after it.
		when := old.Add(time.Duration(i) * time.Second)
		if err := os.Chtimes(be.disk.path(f), when, when); err != nil {
			t.Fatal(err)
		}
		_, total := be.disk.scan()
		if total > budget {
			t.Fatalf("%d bytes after %d files, the budget is %d", total, i+1, budget)
		}
	}
	before := s.Calls()
	for _, f := range s.files[83:] {
		s.read(t, be, f)
	}
	if n := s.Calls() - before; n != 0 {
		t.Errorf("the files that were used last took %d requests", n)
	}
	// They have been used just now: what comes goes before them.
	for _, f := range s.files[:3] {
		s.read(t, be, f)
	}
	before = s.Calls()
	for _, f := range s.files[83:] {
		s.read(t, be, f)
	}
	if n := s.Calls() - before; n > 3 {
		t.Errorf("%d of 7 files that were used just now had to be fetched", n)
	}
}

// Files larger than a quarter of the budget are not kept: a few of them would drive out each other.
func TestTooLargeForTheBudget(t *testing.T) {
	s := newStore(t, 3, 50_000)
	dir := t.TempDir()
	be := open(t, s, dir, 150_000)
	s.walk(t, be)
	if n := s.walk(t, be); n != 7 {
		t.Errorf("%d requests, want 2 files and 5 ranges", n)
	}
	if got := cached(t, dir); len(got) != 0 {
		t.Errorf("kept %v", got)
	}
}

func TestDefaultBudget(t *testing.T) {
	for _, c := range []struct{ free, cached, want int64 }{
		{10 << 30, 0, 1 << 30}, {9 << 30, 1 << 30, 1 << 30}, {0, 0, 0}, {1 << 40, 0, 5 << 30},
	} {
		if got := defaultBudget(c.free, c.cached); got != c.want {
			t.Errorf("%d free, %d cached: %d, want %d", c.free, c.cached, got, c.want)
		}
	}
}

// Whoever holds the lock makes room; another does not wait for it.
func TestRoomIsMadeOnce(t *testing.T) {
	s := newStore(t, 3, 100_000)
	dir := t.TempDir()
	be := open(t, s, dir, 0)
	s.walk(t, be)
	be.disk.budget = 150_000
	lock, err := os.Create(filepath.Join(dir, "evict.lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	be.disk.makeRoom()
	if _, total := be.disk.scan(); total != 300_000 {
		t.Errorf("%d bytes are left while another makes room", total)
	}
	lock.Close()
	be.disk.makeRoom()
	if _, total := be.disk.scan(); total != 100_000 {
		t.Errorf("%d bytes are left", total)
	}
}

// Writers that were interrupted leave files; young ones may be in work.
func TestInterruptedWriters(t *testing.T) {
	dir := t.TempDir()
	be := open(t, newStore(t, 0, 0), dir, 0)
	for name, age := range map[string]time.Duration{"tmp-old": 2 * tempAge, "tmp-young": 0, "foreign": 2 * tempAge} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	be.disk.makeRoom()
	if got := strings.Join(cached(t, dir), " "); got != "foreign tmp-young" {
		t.Errorf("left are %s", got)
	}
}

// inNamespace, set in the environment, tells the process that its mounts are its own.
const inNamespace = "PACKCACHE_TEST_IN_NAMESPACE"

// A disk without room costs requests and nothing else. The disk is a small tmpfs in a mount namespace of a
// process of its own, so that it goes with the process.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if os.Getenv(inNamespace) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFullDisk$")
		cmd.Env = append(os.Environ(), inNamespace+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		if os.Geteuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH) // so that the directory can be removed
	s := newStore(t, 45, 100_000)
	be := open(t, s, dir, 0)
	s.walk(t, be)
	s.walk(t, be)
	s.walk(t, open(t, s, dir, 0))
	kept := cached(t, dir)
	if len(kept) < 5 || len(kept) > 10 {
		t.Errorf("%d files of 100 000 bytes are kept on a disk of 1 MiB", len(kept))
	}
	for _, name := range kept {
		if !strings.HasPrefix(name, backend.Pack.Dir()+"/") && !strings.HasPrefix(name, backend.Index.Dir()+"/") &&
			!strings.HasPrefix(name, backend.Snapshot.Dir()+"/") {
			t.Errorf("%s is left", name)
		}
	}
}

// The date of a file in use is renewed, but not with each read.
func TestTouch(t *testing.T) {
	s := newStore(t, 3, 50_000)
	dir := t.TempDir()
	s.walk(t, open(t, s, dir, 0))
	be := open(t, s, dir, 0)
	for _, c := range []struct {
		age     time.Duration
		renewed bool
	}{{touchEvery / 2, false}, {2 * touchEvery, true}} {
		be.packs = map[string]*pack{} // a new process
		then := time.Now().Add(-c.age)
		for _, f := range s.files {
			if err := os.Chtimes(be.disk.path(f), then, then); err != nil {
				t.Fatal(err)
			}
		}
		s.walk(t, be)
		for _, f := range s.files {
			st, err := os.Stat(be.disk.path(f))
			if err != nil {
				t.Fatal(err)
			}
			if got := !st.ModTime().Equal(then.Truncate(1)) && time.Since(st.ModTime()) < touchEvery/2; got != c.renewed {
				t.Errorf("%v of age %v: renewed %v, want %v", f, c.age, got, c.renewed)
			}
		}
	}
}
