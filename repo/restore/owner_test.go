package restore_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vitrine/repo/repotest"
	"vitrine/repo/restore"
)

const nobody = 65534

// asNobody calls fn without the rights of root.
func asNobody(t *testing.T, fn func()) {
	groups, err := os.Getgroups()
	check(t, err)
	defer func() {
		check(t, errors.Join(syscall.Setresuid(0, 0, 0), syscall.Setresgid(0, 0, 0), syscall.Setgroups(groups)))
	}()
	check(t, errors.Join(syscall.Setgroups(nil), syscall.Setresgid(nobody, nobody, 0), syscall.Setresuid(nobody, nobody, 0)))
	check(t, unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)) // or /proc/self would still be root's
	fn()
}

// Who cannot give a file to its owner must not keep its set-ID bits: everybody could then act as himself. Of the user and the group each
// counts for itself, and a directory's bit gives nobody anything.
func TestSetID(t *testing.T) {
	source := t.TempDir()
	want := map[string]uint32{}
	for _, f := range []struct {
		name           string
		uid, gid       int
		mode, asNobody uint32
	}{
		{"root", 0, 0, 0o6755, 0o755},
		{"user of root", 0, 0, 0o4711, 0o711},
		{"group of root", 0, 0, 0o2755, 0o755},
		{"nobody", nobody, nobody, 0o6755, 0o6755},
		{"group is another", nobody, 0, 0o6755, 0o4755},
		{"user is another", 0, nobody, 0o6755, 0o2755},
	} {
		path := filepath.Join(source, f.name)
		check(t, os.WriteFile(path, []byte(f.name), 0o600))
		check(t, errors.Join(os.Chown(path, f.uid, f.gid), unix.Chmod(path, f.mode)))
		want[f.name] = f.asNobody
	}
	check(t, os.Mkdir(source+"/directory", 0o755))
	check(t, unix.Chmod(source+"/directory", 0o2755))
	want["directory"] = 0o2755
	r, _ := repotest.New(t, 2)
	tree := saved(t, r, source)
	target := t.TempDir()
	check(t, errors.Join(os.Chown(target, nobody, nobody), unix.Chmod(filepath.Dir(target), 0o755)))
	for _, when := range []string{"new files", "files that are there"} {
		var logged bytes.Buffer
		asNobody(t, func() {
			restored(t, r, restore.Options{Tree: tree, Target: target, Log: slog.New(slog.NewTextHandler(&logged, nil))})
		})
		got := map[string]uint32{}
		for name := range want {
			var st unix.Stat_t
			check(t, unix.Lstat(filepath.Join(target, name), &st))
			got[name] = st.Mode & 0o7777
			if st.Uid != nobody {
				t.Errorf("%s: %s belongs to %d", when, name, st.Uid)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s, -want +got:\n%s", when, diff)
		}
		if n := strings.Count(logged.String(), "set-user-ID"); n != 1 {
			t.Errorf("%s: told %d times:\n%s", when, n, logged.String())
		}
	}
	whole := t.TempDir()
	restored(t, r, restore.Options{Tree: tree, Target: whole})
	same(t, source, whole)
}

// A directory with the set-group-ID bit gives its group to what is made in it, and new directories the bit as well. What is
// restored has the group of the snapshot all the same.
func TestSetGroupIDDirectory(t *testing.T) {
	source := t.TempDir()
	for _, dir := range []string{"", "/new", "/there", "/there/new"} {
		write(t, source+dir+"/f", "f", time.Unix(1, 0))
		check(t, os.Symlink("f", source+dir+"/link"))
	}
	check(t, unix.Chmod(source+"/f", 0o2755))
	r, _ := repotest.New(t, 2)
	tree := saved(t, r, source)
	for name, dir := range map[string]string{"target": "", "below": "/there"} {
		t.Run(name, func(t *testing.T) {
			target := t.TempDir()
			check(t, os.MkdirAll(target+dir, 0o755))
			check(t, errors.Join(os.Chown(target+dir, 0, nobody), unix.Chmod(target+dir, 0o2755)))
			restored(t, r, restore.Options{Tree: tree, Target: target})
			same(t, source, target)
		})
	}
}
