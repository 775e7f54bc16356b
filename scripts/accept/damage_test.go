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

// flip returns a copy with one bit changed.
func flip(p []byte, i int) []byte {
	out := append([]byte(nil), p...)
	out[i] ^= 0x10
	return out
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
