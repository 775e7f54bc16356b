package restore_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
	"vitrine/repo/restore"
	"vitrine/repo/source/pattern"
)

// told runs a restore and returns what it told: the errors, by the paths below the target.
func told(t testing.TB, r restore.Store, o restore.Options) (restore.Result, *recorder, map[string]string) {
	t.Helper()
	rec := newRecorder()
	o.Reporter = rec
	res, err := restore.Run(t.Context(), r, o)
	check(t, err)
	if int(res.Errors) != len(rec.errors) {
		t.Errorf("%d errors were counted, %d told", res.Errors, len(rec.errors))
	}
	errs := map[string]string{}
	for path, err := range rec.errors {
		errs[strings.TrimPrefix(path, o.Target+"/")] = err.Error()
	}
	return res, rec, errs
}

// dryThenReal runs both, which must tell the same; the dry run must change nothing.
func dryThenReal(t testing.TB, r restore.Store, o restore.Options) (restore.Result, map[string]string) {
	t.Helper()
	before := seen(t, o.Target)
	o.DryRun = true
	dry, dryRec, dryErrs := told(t, r, o)
	if diff := cmp.Diff(before, seen(t, o.Target)); diff != "" {
		t.Errorf("the dry run changed something:\n%s", diff)
	}
	o.DryRun = false
	res, rec, errs := told(t, r, o)
	if diff := cmp.Diff(errs, dryErrs); diff != "" {
		t.Errorf("errors -real +dry:\n%s", diff)
	}
	if diff := cmp.Diff(rec.items, dryRec.items); diff != "" {
		t.Errorf("items -real +dry:\n%s", diff)
	}
	if diff := cmp.Diff(res, dry); diff != "" {
		t.Errorf("result -real +dry:\n%s", diff)
	}
	return res, errs
}

// kinds are names that are no directories.
var kinds = []string{"G/file", "G/empty", "G/symlink", "G/fifo", "G/device", "G/first", "G/link"}

// ofAllKinds makes them, and returns the tree of a snapshot of them.
func ofAllKinds(t testing.TB) (source string, r *repo.Repository, tree blob.ID) {
	source = t.TempDir()
	write(t, source+"/G/file", "file", time.Unix(1, 0))
	write(t, source+"/G/empty", "", time.Unix(1, 0))
	check(t, os.Symlink("file", source+"/G/symlink"))
	check(t, unix.Mkfifo(source+"/G/fifo", 0o600))
	check(t, unix.Mknod(source+"/G/device", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	write(t, source+"/G/first", "of two names", time.Unix(1, 0))
	check(t, os.Link(source+"/G/first", source+"/G/link"))
	r, _ = repotest.New(t, 2)
	return source, r, saved(t, r, source)
}

func list(t testing.TB, patterns ...string) []*pattern.List {
	t.Helper()
	l, err := pattern.Compile(patterns, false)
	check(t, err)
	return []*pattern.List{l}
}

// With Delete a directory gives way to whatever the snapshot has in its place.
func TestDirectoryGivesWay(t *testing.T) {
	source, r, tree := ofAllKinds(t)
	for _, s := range []restore.Select{{}, {Include: list(t, "/G/*")}, {Exclude: list(t, "/other")}} {
		target, elsewhere := t.TempDir(), t.TempDir()
		write(t, elsewhere+"/file", "x", time.Unix(1, 0))
		for _, name := range kinds {
			write(t, target+"/"+name+"/some/thing", "x", time.Unix(1, 0))
			check(t, os.Symlink(elsewhere, target+"/"+name+"/some/where"))
			check(t, os.Mkdir(target+"/"+name+"/empty", 0o500))
		}
		o := restore.Options{Tree: tree, Target: target, Delete: true, Select: s}
		res, errs := dryThenReal(t, r, o)
		if len(errs) > 0 || int(res.Deleted) != 4*len(kinds) {
			t.Errorf("%+v, %v", res, errs)
		}
		if s.Include == nil { // which leaves the directory above as it is
			same(t, source, target)
		}
		for _, name := range kinds {
			if fi, err := os.Lstat(target + "/" + name); err != nil || fi.IsDir() {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := os.Stat(elsewhere + "/file"); err != nil {
			t.Error("it was deleted through a link: ", err)
		}
	}
}

// Without it only empty ones do, and nothing is removed.
func TestDirectoryStays(t *testing.T) {
	_, r, tree := ofAllKinds(t)
	target := t.TempDir()
	for i, name := range kinds {
		check(t, os.MkdirAll(target+"/"+name, 0o755))
		if i%2 == 0 {
			write(t, target+"/"+name+"/thing", "x", time.Unix(1, 0))
		}
	}
	_, errs := dryThenReal(t, r, restore.Options{Tree: tree, Target: target})
	for i, name := range kinds {
		_, err := os.Stat(target + "/" + name + "/thing")
		if stays := i%2 == 0; stays != (err == nil) || stays != strings.Contains(errs[name], "a directory that is not empty is in the way") ||
			stays != strings.Contains(errs[name], "--delete") {
			t.Errorf("%s: %q, %v", name, errs[name], err)
		}
	}
}

// What may not go keeps the whole directory, and the error names it.
func TestDirectoryHolds(t *testing.T) {
	_, r, tree := ofAllKinds(t)
	// The first name of two is restored, so that the other has something to be linked to.
	kinds := slices.DeleteFunc(slices.Clone(kinds), func(name string) bool { return name == "G/first" })
	for _, test := range []struct {
		name   string
		sel    restore.Select
		mount  func(t *testing.T, dir string)
		reason string
	}{
		{"excluded", restore.Select{Exclude: list(t, "*.me")}, nil, "/some/not.me is excluded"},
		{"not included", restore.Select{Include: list(t, "/G", "!*.me")}, nil, "/some/not.me is excluded"},
		{"file system", restore.Select{}, func(t *testing.T, dir string) { mount(t, "none", dir+"/some/dir", "tmpfs", 0) }, "/some/dir: it is a mount point"},
		{"same file system", restore.Select{}, func(t *testing.T, dir string) { mount(t, dir+"/other", dir+"/some/dir", "", unix.MS_BIND) }, "/some/dir: it is a mount point"},
		{"file", restore.Select{}, func(t *testing.T, dir string) { mount(t, dir+"/thing", dir+"/some/not.me", "", unix.MS_BIND) }, "/some/not.me: it is a mount point"},
		{"itself", restore.Select{}, func(t *testing.T, dir string) { mount(t, dir+"/other", dir, "", unix.MS_BIND) }, "is in the way: it is a mount point"},
	} {
		t.Run(test.name, func(t *testing.T) {
			target := t.TempDir()
			for _, name := range kinds {
				dir := target + "/" + name
				for _, below := range []string{"thing", "other/thing", "some/not.me", "zzz"} {
					write(t, dir+"/"+below, "x", time.Unix(1, 0))
				}
				check(t, os.Mkdir(dir+"/some/dir", 0o755))
				if test.mount != nil {
					test.mount(t, dir)
				}
			}
			before := seen(t, target)
			_, errs := dryThenReal(t, r, restore.Options{Tree: tree, Target: target, Delete: true, Select: test.sel})
			for _, name := range kinds {
				if !strings.Contains(errs[name], test.reason) {
					t.Errorf("%s: %q", name, errs[name])
				}
			}
			after := seen(t, target)
			for _, name := range []string{"G", "G/first"} { // restored
				delete(before, name)
				delete(after, name)
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("-before +after:\n%s", diff)
			}
		})
	}
}

func mount(t testing.TB, source, dir, kind string, flags uintptr) {
	t.Helper()
	check(t, unix.Mount(source, dir, kind, flags, ""))
	t.Cleanup(func() { check(t, unix.Unmount(dir, unix.MNT_DETACH)) })
}

// Delete does not empty what is mounted in a directory that the snapshot has not.
func TestDeleteStaysInTheFileSystem(t *testing.T) {
	_, r, tree := ofAllKinds(t)
	target := t.TempDir()
	for _, dir := range []string{"extra/mounted", "extra/other", "mounted"} {
		check(t, os.MkdirAll(target+"/"+dir, 0o755))
	}
	for _, dir := range []string{"extra/mounted", "mounted"} {
		mount(t, "none", target+"/"+dir, "tmpfs", 0)
		write(t, target+"/"+dir+"/file", "x", time.Unix(1, 0))
	}
	o := restore.Options{Tree: tree, Target: target, Delete: true}
	_, errs := dryThenReal(t, r, o)
	for _, dir := range []string{"extra/mounted", "mounted"} {
		if _, err := os.Stat(target + "/" + dir + "/file"); err != nil || !strings.Contains(errs[dir], "it is a mount point") {
			t.Errorf("%s: %q, %v", dir, errs[dir], err)
		}
	}
	if _, err := os.Stat(target + "/extra/other"); err == nil || len(errs) != 3 { // extra is not empty
		t.Error(err, errs)
	}
}

// A dry run knows which names are those of one file already.
func TestDryRunOfLinks(t *testing.T) {
	source, r, _ := ofAllKinds(t)
	check(t, os.Link(source+"/G/symlink", source+"/G/symlink-too"))
	check(t, os.Link(source+"/G/fifo", source+"/G/fifo-too"))
	tree := saved(t, r, source)
	links := []string{"link", "symlink-too", "fifo-too"}
	for _, test := range []struct {
		name   string
		change func(dir string)
		o      restore.Options
		done   uint64
	}{
		{"identical", func(string) {}, restore.Options{}, 0},
		{"the first has other content", func(dir string) { write(t, dir+"/first", "OF TWO NAMES", time.Unix(1, 0)) }, restore.Options{}, 2},
		{"it was believed", func(dir string) { write(t, dir+"/first", "OF TWO NAMES", time.Unix(1, 0)) }, restore.Options{Overwrite: restore.IfChanged}, 0},
		{"the first is missing", func(dir string) { check(t, os.Remove(dir+"/first")) }, restore.Options{}, 2},
		{"another is missing", func(dir string) { check(t, os.Remove(dir+"/link")) }, restore.Options{}, 1},
		{"another is a file of its own", func(dir string) {
			check(t, os.Remove(dir+"/link"))
			write(t, dir+"/link", "of two names", time.Unix(1, 0))
		}, restore.Options{}, 1},
		{"it stays", func(dir string) {
			check(t, os.Remove(dir+"/link"))
			write(t, dir+"/link", "of two names", time.Unix(1, 0))
		}, restore.Options{Overwrite: restore.Never}, 0},
		{"the first is a directory", func(dir string) {
			check(t, os.Remove(dir+"/first"))
			check(t, os.Mkdir(dir+"/first", 0o755))
		}, restore.Options{}, 2},
		{"all are missing", func(dir string) {
			for _, name := range links {
				check(t, os.Remove(dir+"/"+name))
			}
		}, restore.Options{}, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.o.Tree, test.o.Target = tree, t.TempDir()
			restored(t, r, restore.Options{Tree: tree, Target: test.o.Target})
			test.change(test.o.Target + "/G")
			res, errs := dryThenReal(t, r, test.o)
			if len(errs) > 0 || res.Restored != test.done {
				t.Errorf("%+v, %v", res, errs)
			}
		})
	}
}

// A second run after directories gave way has nothing to do.
func TestGivingWayIsRepeated(t *testing.T) {
	_, r, tree := ofAllKinds(t)
	target := t.TempDir()
	for _, name := range kinds {
		write(t, target+"/"+name+"/some/thing", "x", time.Unix(1, 0))
	}
	for _, want := range []uint64{7, 0} { // G is there
		res, errs := dryThenReal(t, r, restore.Options{Tree: tree, Target: target, Delete: true})
		if len(errs) > 0 || res.Restored != want {
			t.Error(res, errs)
		}
	}
}

// A dry run sees what is no directory where one belongs. It stays where nothing is to be overwritten, or nothing newer.
func TestDirectoryIsMissing(t *testing.T) {
	_, r, tree := ofAllKinds(t)
	for _, place := range []func(path string) error{
		func(path string) error { return os.WriteFile(path, nil, 0o644) },
		func(path string) error { return os.Symlink(".", path) },
	} {
		for _, tc := range []struct {
			overwrite restore.Overwrite
			old       bool // older than anything in the snapshot
			stays     bool
		}{
			{restore.Never, true, true}, {restore.Always, false, false}, {restore.IfChanged, false, false},
			{restore.IfNewer, false, true}, {restore.IfNewer, true, false},
		} {
			target := t.TempDir()
			check(t, place(target+"/G"))
			if tc.old {
				past := unix.NsecToTimespec(0)
				check(t, unix.UtimesNanoAt(unix.AT_FDCWD, target+"/G", []unix.Timespec{past, past}, unix.AT_SYMLINK_NOFOLLOW))
			}
			_, errs := dryThenReal(t, r, restore.Options{Tree: tree, Target: target, Overwrite: tc.overwrite})
			info, err := os.Lstat(target + "/G")
			check(t, err)
			if refused := strings.Contains(errs["G"], "no directory is there"); refused != tc.stays || info.IsDir() == tc.stays {
				t.Errorf("%+v: %v, %v", tc, info.Mode(), errs)
			}
		}
	}
}

// Whatever fails of the metadata of a file is one error, which leaves its name to the reporter.
func TestReadOnlyTarget(t *testing.T) {
	source := t.TempDir()
	write(t, source+"/file", "x", time.Unix(1, 0))
	check(t, os.Mkdir(source+"/dir", 0o755))
	check(t, os.Symlink("file", source+"/link"))
	r, _ := repotest.New(t, 2)
	tree := saved(t, r, source)
	target := t.TempDir()
	mount(t, "none", target, "tmpfs", 0)
	restored(t, r, restore.Options{Tree: tree, Target: target})
	check(t, unix.Mount("none", target, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	res, rec, errs := told(t, r, restore.Options{Tree: tree, Target: target})
	for _, name := range []string{"file", "dir", "link"} {
		if text := errs[name]; strings.Contains(text, target) || !strings.Contains(text, "set the owner: read-only file system") || !errors.Is(rec.errors[target+"/"+name], unix.EROFS) {
			t.Errorf("%s: %q", name, text)
		}
	}
	if res.Errors != 3 {
		t.Errorf("%+v", res)
	}
}
