package accept

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
)

// damages are the ways in which a file goes bad. Each gets the content and returns what the disk
// gives back instead.
var damages = map[string]func([]byte) []byte{
	"empty":      func([]byte) []byte { return nil },
	"half":       func(p []byte) []byte { return p[:len(p)/2] },
	"one short":  func(p []byte) []byte { return p[:len(p)-1] },
	"first bit":  func(p []byte) []byte { return flip(p, 0) },
	"middle bit": func(p []byte) []byte { return flip(p, len(p)/2) },
	"last bit":   func(p []byte) []byte { return flip(p, len(p)-1) },
	"zeros":      func(p []byte) []byte { return make([]byte, len(p)) },
}

func flip(p []byte, i int) []byte {
	out := append([]byte(nil), p...)
	out[i] ^= 0x10
	return out
}

// A file of any kind that is cut or has a wrong bit is an error that names what is wrong,
// never a panic, a hang or a success.
func TestDamagedFiles(t *testing.T) {
	whole := newLab(t).checked()
	whole.vitrine("init")
	master := whole.quicken()
	source := whole.dir + "/source"
	whole.must("cp", "-a", filepath.Join(smallTree(t), "made"), source)
	whole.vitrine("backup", source)
	whole.vitrine("backup", "--tag", "second", source)
	lock := `{"time":"2020-01-01T00:00:00Z","exclusive":false,"hostname":"elsewhere","username":"test","pid":1}`

	for _, kind := range []string{"config", "keys", "snapshots", "index", "data", "locks"} {
		for name, damage := range damages {
			t.Run(kind+" "+name, func(t *testing.T) {
				t.Parallel() // much of the time goes by in the waits of the lock protocol
				l := newLab(t)
				l.password = whole.password
				l.must("cp", "-a", whole.repo, l.repo)
				if kind == "locks" {
					l.store("locks", l.seal(master, lock))
				}
				files := l.files(kind)
				sort.Strings(files)
				victim := files[len(files)/2]
				content, err := os.ReadFile(victim)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(os.Chmod(victim, 0o600), os.WriteFile(victim, damage(content), 0o600)); err != nil {
					t.Fatal(err)
				}
				l.reportsDamage(kind, filepath.Base(victim), source)
			})
		}
	}
}

// reportsDamage runs the program against a repository with one bad file.
func (l *lab) reportsDamage(kind, name, source string) {
	l.t.Helper()
	results := map[string]result{}
	for _, command := range []string{"check --read-data", "snapshots", "ls latest", "backup " + source} {
		args := strings.Fields(command)
		r := l.tryVitrine(args...)
		if r.code != 0 && strings.TrimSpace(r.stderr) == "" {
			l.t.Errorf("it failed and said nothing:\n%v", r)
		}
		results[args[0]] = r
	}
	check := results["check"]
	switch kind {
	case "config", "keys": // nothing opens without them
		for _, r := range results {
			if r.code == 0 {
				l.t.Errorf("it succeeded with a damaged %s file:\n%v", kind, r)
			}
		}
	case "locks": // must not keep the check from its work
	default:
		if all := check.stdout + check.stderr; check.code == 0 || !strings.Contains(all, name[:8]) {
			l.t.Errorf("check must fail and name %s:\n%v", name[:8], check)
		}
	}
}

// One bad pack costs the files in it and nothing else: they give EIO, all others read as ever.
func TestMountWithDamagedPack(t *testing.T) {
	l := newLab(t)
	l.vitrine("init")
	l.quicken()
	source := l.dir + "/source"
	l.must("cp", "-a", smallTree(t), source)
	l.vitrine("backup", "--pack-size", "4", source)

	// A data pack: the largest file of the repository is one.
	packs := l.files("data")
	sort.Slice(packs, func(i, j int) bool { return fileSize(t, packs[i]) > fileSize(t, packs[j]) })
	content, err := os.ReadFile(packs[0])
	if err != nil {
		t.Fatal(err)
	}
	half := append(append([]byte(nil), content[:len(content)/2]...), make([]byte, len(content)-len(content)/2)...)
	if err := errors.Join(os.Chmod(packs[0], 0o600), os.WriteFile(packs[0], half, 0o600)); err != nil {
		t.Fatal(err)
	}

	m := l.mount()
	good, bad := 0, 0
	err = filepath.WalkDir(source, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		want, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(m.latest(p))
		switch {
		case err == nil && string(got) == string(want):
			good++
		case errors.Is(err, syscall.EIO):
			bad++
		default:
			t.Errorf("%s: %d bytes and %v, want the content or EIO", p, len(got), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if bad == 0 || good < 5*bad {
		t.Errorf("%d files read and %d gave EIO; one damaged pack must cost some files and not most", good, bad)
	}
	m.stop()
	if pack := filepath.Base(packs[0])[:8]; !strings.Contains(m.log.String(), pack) {
		t.Errorf("the mount did not name pack %s:\n%s", pack, clip(m.log.String()))
	}
	if r := l.tryVitrine("check", "--read-data"); r.code == 0 {
		t.Errorf("check must fail:\n%v", r)
	}

	// With the pack back, everything is well again.
	if err := os.WriteFile(packs[0], content, 0o600); err != nil {
		t.Fatal(err)
	}
	l.vitrine("check", "--read-data")
	l.same(source, l.mount().latest(source))
}

// Places where a mount must not go are refused with a sentence, and nothing is mounted.
func TestMountRefuses(t *testing.T) {
	l := newLab(t).checked()
	l.vitrine("init")
	l.quicken()
	full := l.dir + "/full"
	if err := errors.Join(os.Mkdir(full, 0o755), os.WriteFile(full+"/file", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{l.repo, l.repo + "/data", l.dir, full, full + "/file", l.dir + "/missing"} {
		command := append(l.vitrineCommand(), "mount", place)
		cmd := exec.Command("timeout", append([]string{"--signal=TERM", "20"}, command...)...)
		r := l.try(cmd)
		if r.code != 1 || !strings.Contains(r.stderr, place) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("want exit code 1 and one line that names %s:\n%v", place, r)
		}
		if isMountPoint(place) {
			t.Errorf("%s is mounted", place)
			detach(place)
		}
	}
}

func fileSize(t *testing.T, p string) int64 {
	t.Helper()
	info, err := os.Stat(p)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
