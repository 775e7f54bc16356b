package archive

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vitrine/repo/repotest"
	"vitrine/repo/snapshot"
	"vitrine/repo/source"
	"vitrine/repo/source/pattern"
	"vitrine/repo/source/sourcetest"
)

// tree makes files below a scratch directory; a name that ends in a slash is a directory.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := scratch(t)
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(p, 0o755); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestCountsLikeRestic takes one source through changes and lets both programs back it up after
// each of them, each into a repository of its own. Trees and summaries are the same, in whichever
// direction ours walks.
func TestCountsLikeRestic(t *testing.T) {
	dir := tree(t, map[string]string{
		"d/f1": "1", "d/e/f2": "2", "g/f2same": "2", "d/rnd": string(sourcetest.Noise(1, 1000)),
		"large": string(sourcetest.Noise(2, 3<<20)), "empty/": "",
	})
	check(t, os.Symlink("x", filepath.Join(dir, "g/l")))
	check(t, unix.Mkfifo(filepath.Join(dir, "g/p"), 0o644))
	t.Chdir(dir)
	replace := func(name string) {
		info, err := os.Stat(name)
		check(t, err)
		content, err := os.ReadFile(name)
		check(t, err)
		check(t, os.WriteFile(name+".new", content, 0o644))
		check(t, os.Chtimes(name+".new", info.ModTime(), info.ModTime()))
		check(t, os.Rename(name+".new", name))
	}
	theirs, our := initRestic(t, 2), initRestic(t, 2)
	for i, step := range []struct {
		name    string
		change  func()
		flags   string
		targets string // "." if empty
	}{
		{name: "first"},
		{name: "unchanged"},
		{name: "force", flags: "--force"},
		{name: "chmod", change: func() { check(t, os.Chmod("d/f1", 0o600)) }},
		{name: "chmod, ignored", change: func() { check(t, os.Chmod("d/f1", 0o644)) }, flags: "--ignore-ctime"},
		{name: "chmod of a directory", change: func() { check(t, os.Chmod("g", 0o700)) }},
		{name: "touch", change: func() { check(t, os.Chtimes("d/f1", time.Now(), time.Now())) }},
		{name: "another link", change: func() { check(t, os.Remove("g/l")); check(t, os.Symlink("y", "g/l")) }},
		{name: "same in another inode", change: func() { replace("d/f1") }},
		{name: "same in another inode, ignored", change: func() { replace("d/f1") }, flags: "--ignore-inode"},
		{name: "file becomes directory", change: func() { check(t, os.Remove("d/f1")); check(t, os.Mkdir("d/f1", 0o755)) }},
		{name: "directory becomes file", change: func() {
			check(t, os.Remove("d/f1"))
			check(t, os.WriteFile("d/f1", []byte("z"), 0o644))
		}},
		{name: "other targets", change: func() { check(t, os.WriteFile("d/e/new", []byte("new"), 0o644)) }, targets: "d/e/new g"},
		{name: "other targets again", targets: "d/e/new g"},
		{name: "fewer targets than the parent", targets: "g"},
		{name: "all again"},
		{name: "large grows", change: func() {
			f, err := os.OpenFile("large", os.O_APPEND|os.O_WRONLY, 0)
			check(t, err)
			_, err = f.Write(sourcetest.Noise(3, 1<<20))
			check(t, errors.Join(err, f.Close()))
		}},
		{name: "attribute", change: func() { check(t, unix.Setxattr("g", "user.foo", []byte("1"), 0)) }},
		{name: "removed", change: func() { check(t, os.RemoveAll("d/e")) }},
	} {
		t.Run(step.name, func(t *testing.T) {
			if step.change != nil {
				step.change()
			}
			targets := []string{"."}
			if step.targets != "" {
				targets = strings.Fields(step.targets)
			}
			// Both see the same snapshots: the other steps' parents by path, not by time.
			want, sn := theirs.backup(dir, append(append(strings.Fields(step.flags), "--host", "h"), targets...)...)
			rep := &recorder{t: t}
			res := ours(t, our.open(), Options{
				Targets: targets, Host: "h", Reporter: rep,
				Backwards: i%2 == 1,
				Force:     step.flags == "--force", IgnoreCtime: step.flags == "--ignore-ctime", IgnoreInode: step.flags == "--ignore-inode",
			})
			if *sn.Tree != *res.Snapshot.Tree {
				t.Errorf("tree %s of restic, %s of ours", sn.Tree.Short(), res.Snapshot.Tree.Short())
			}
			compareSummaries(t, want.Summary, res.Summary)
			if (sn.Parent == nil) != (res.Snapshot.Parent == nil) {
				t.Errorf("parent %v of restic, %v of ours", sn.Parent, res.Snapshot.Parent)
			}
			checkReported(t, rep, res.Summary)
		})
	}
	our.run("", "check", "--read-data")
}

// checkReported holds what was reported against the summary.
func checkReported(t *testing.T, rep *recorder, s snapshot.Summary) {
	t.Helper()
	var sum snapshot.Summary
	for _, it := range rep.items {
		var n *uint64
		switch {
		case it.Type == snapshot.File:
			n = []*uint64{&sum.FilesNew, &sum.FilesChanged, &sum.FilesUnmodified}[it.Change]
			sum.TotalFilesProcessed++
			sum.TotalBytesProcessed += it.SizeBytes
		case it.Type == snapshot.Dir:
			n = []*uint64{&sum.DirsNew, &sum.DirsChanged, &sum.DirsUnmodified}[it.Change]
		default:
			n = new(uint64)
		}
		*n++
		sum.DataBlobs += int64(it.DataBlobs)
		sum.TreeBlobs += int64(it.TreeBlobs)
	}
	s.BackupStart, s.BackupEnd, s.DataAdded, s.DataAddedPacked = time.Time{}, time.Time{}, 0, 0
	if s.TreeBlobs > sum.TreeBlobs {
		s.TreeBlobs-- // the root is no item
	}
	if diff := cmp.Diff(s, sum); diff != "" {
		t.Errorf("reported items (-summary +items):\n%s", diff)
	}
	if len(rep.started) != 0 {
		t.Errorf("started and never done: %v", rep.started)
	}
}

// TestFilterLikeRestic backs up with the same exclude options and finds the same trees.
func TestFilterLikeRestic(t *testing.T) {
	dir := tree(t, map[string]string{
		"foo/x/y/bar/f": "f", "foo/bar/sub/g": "g", "a/b/c/h.go": "h", "a/b/H.GO": "H", "a/foobar": "", "a/[x]": "x",
		"a/sp ace": "s", "a/!neg": "n", "a/star*": "*", `a/b/back\slash`: `\`, "a/large": strings.Repeat("x", 1025), "a/1k": strings.Repeat("x", 1024),
		"tagged/.nobackup": "", "tagged/a": "1", "tagged/sub/b": "2", "cache/CACHEDIR.TAG": source.CacheTag.Header, "cache/data": "d", "cache/sub/x": "",
		"short/CACHEDIR.TAG": "x", "short/data": "d", "headed/TAG": "magic and more", "headed/data": "d", "both/.nobackup": "", "both/TAG": "magic", "both/data": "",
	})
	base := filepath.Base(dir)
	rr := initRestic(t, 2)
	r := rr.open()
	for _, args := range [][]string{
		{"-e", "foo"}, {"-e", "foo/**"}, {"-e", "foo/**/bar"}, {"-e", "**/bar"}, {"-e", "/**/bar"}, {"-e", "?"}, {"-e", "[ab]"}, {"-e", "[^ab]"},
		{"-e", "/foo"}, {"-e", dir + "/foo/"}, {"-e", base + "/foo"}, {"-e", "a//b"}, {"-e", "./foo"}, {"-e", "../foo"}, {"-e", ""},
		{"-e", dir + "/**/*", "-e", "!" + dir + "/a"}, {"-e", dir + "/*", "-e", "!" + dir + "/a", "-e", "*.go"}, {"-e", "!foo", "-e", "foo"},
		{"-e", "foo", "-e", "!foo/bar"}, {"-e", "*.go", "-e", "!H*", "-e", "*.GO"}, {"-e", "x**y/bar"}, {"-e", "a/**c"}, {"-e", "a/*/h.go"},
		{"-e", `back\\slash`, "-e", `star\*`, "-e", `\!neg`, "-e", `\[x\]`}, {"-e", "sp ace"},
		{"--iexclude", "*.go"}, {"--iexclude", strings.ToUpper(dir) + "/FOO", "-e", "bar"}, {"--iexclude", "foo", "-e", "!foo"},
		{"--exclude-larger-than", "1k"}, {"--exclude-larger-than", "1"},
		{"--exclude-caches"}, {"--exclude-if-present", ".nobackup"}, {"--exclude-if-present", "TAG:magic"},
		{"--exclude-if-present", ".nobackup", "--exclude-if-present", "TAG"}, {"--exclude-if-present", ".nobackup", "targets", "tagged/a", "tagged/sub", "foo"},
		{"-e", "foo/x", "targets", "foo/x/y", "foo/bar/sub/g", "a/b"}, {"-e", "*.go", "targets", "a/b/c/h.go", "a"},
	} {
		name := strings.ReplaceAll(strings.Join(args, " "), dir, "DIR")
		t.Run(name, func(t *testing.T) {
			t.Parallel() // restic sleeps more than it works
			f := &source.Filter{}
			targets := []string{dir}
			var plain, fold []string
			flags := args
			for i := 0; i < len(args); i++ {
				next := func() string { i++; return args[i] }
				var err error
				switch args[i] {
				case "-e":
					plain = append(plain, next())
				case "--iexclude":
					fold = append(fold, next())
				case "--exclude-larger-than":
					f.MaxFileBytes, err = source.ParseSize(next())
				case "--exclude-caches":
					f.Tags = append(f.Tags, source.CacheTag)
				case "--exclude-if-present":
					var tag source.TagFile
					tag, err = source.ParseTagFile(next())
					f.Tags = append(f.Tags, tag)
				case "targets":
					flags, targets = args[:i], nil
					for _, name := range args[i+1:] {
						targets = append(targets, dir+"/"+name)
					}
					i = len(args)
				}
				check(t, err)
			}
			for i, list := range [][]string{plain, fold} {
				l, err := pattern.Compile(list, i == 1)
				check(t, err)
				f.Patterns = append(f.Patterns, l)
			}
			_, sn := rr.backup("", append(append([]string{"--force"}, flags...), targets...)...)
			res := ours(t, r, Options{Targets: targets, Filter: f, Force: true})
			check(t, r.RefreshIndex(t.Context()))
			// Above dir are directories that change with every other test.
			theirs, err := r.FindNode(t.Context(), *sn.Tree, dir)
			check(t, err)
			our, err := r.FindNode(t.Context(), *res.Snapshot.Tree, dir)
			check(t, err)
			compareTrees(t, r, *theirs.Subtree, *our.Subtree)
		})
	}
}

// TestOneFileSystemLikeRestic has file systems mounted in the source, and in each other.
func TestOneFileSystemLikeRestic(t *testing.T) {
	dir := tree(t, map[string]string{"foo/f": "1", "foo/keep/": "", "foo/bar/": ""})
	mount := func(p, file string) {
		t.Helper()
		check(t, os.MkdirAll(p, 0o755))
		check(t, unix.Mount("none", p, "tmpfs", 0, ""))
		t.Cleanup(func() { check(t, unix.Unmount(p, unix.MNT_DETACH)) })
		check(t, os.WriteFile(filepath.Join(p, file), []byte(file), 0o644))
	}
	mount(filepath.Join(dir, "foo/bar"), "inbar")
	mount(filepath.Join(dir, "foo/bar/baz"), "inbaz")
	check(t, os.Mkdir(filepath.Join(dir, "foo/bar/baz/sub"), 0o755))
	t.Chdir(dir)
	rr := initRestic(t, 2)
	r := rr.open()
	for _, targets := range []string{
		"foo", "foo foo/bar/baz", "foo/bar/baz foo", "foo foo/bar", "foo foo/bar/inbar", "foo/f foo/bar/baz", ". foo/bar/baz", "foo/bar/baz/inbaz foo/keep",
	} {
		t.Run(targets, func(t *testing.T) {
			_, sn := rr.backup(dir, append([]string{"-x", "--force"}, strings.Fields(targets)...)...)
			check(t, r.RefreshIndex(t.Context()))
			res := ours(t, r, Options{Targets: strings.Fields(targets), Filter: &source.Filter{OneFileSystem: true}, Force: true})
			compareTrees(t, r, *sn.Tree, *res.Snapshot.Tree)
		})
	}
}

// TestStdinLikeRestic stores standard input under a name.
func TestStdinLikeRestic(t *testing.T) {
	rr := initRestic(t, 2)
	r := rr.open()
	content := string(sourcetest.Noise(5, 20<<20))
	at := time.Date(2012, 11, 1, 22, 8, 41, 0, time.Local)
	rr.stdin = content
	_, sn := rr.backup("", "--stdin", "--stdin-filename", "./x/../dump.sql", "--time", "2012-11-01 22:08:41")
	check(t, r.RefreshIndex(t.Context()))
	res := ours(t, r, Options{Stdin: strings.NewReader(content), StdinFilename: "./x/../dump.sql", Time: at})
	theirs, err := r.FindNode(t.Context(), *sn.Tree, "dump.sql")
	check(t, err)
	our, err := r.FindNode(t.Context(), *res.Snapshot.Tree, "dump.sql")
	check(t, err)
	if res.Summary.DataBlobs != 0 {
		t.Errorf("%d new data blobs", res.Summary.DataBlobs)
	}
	// restic notes the time at which it read; the time of the snapshot is what can be repeated.
	theirs.ModTime, theirs.AccessTime, theirs.ChangeTime = at, at, at
	if diff := cmp.Diff(string(theirs.AppendJSON(nil)), string(our.AppendJSON(nil))); diff != "" {
		t.Errorf("(-restic +ours):\n%s", diff)
	}
	if diff := cmp.Diff(sn.Paths, res.Snapshot.Paths); diff != "" {
		t.Errorf("paths (-restic +ours):\n%s", diff)
	}
	for name, stdin := range map[string]string{"a/b/small": "s", "empty": ""} {
		res := ours(t, r, Options{Stdin: strings.NewReader(stdin), StdinFilename: name})
		n, err := r.FindNode(t.Context(), *res.Snapshot.Tree, name)
		check(t, err)
		if n.Size != uint64(len(stdin)) || n.Content == nil {
			t.Errorf("%s: %+v", name, n)
		}
	}
	if _, err := Run(t.Context(), r, Options{Stdin: strings.NewReader(""), StdinFilename: "a/.."}); err == nil {
		t.Error("standard input without a name is taken")
	}
	rr.run("", "check", "--read-data")
}

// TestScanAfter counts what there is while a file keeps the backup busy, unless that is put off: then it is known in the end.
func TestScanAfter(t *testing.T) {
	files := map[string]string{"a": "content", "b": "", "c": "content"} // the walk is over at once
	dir := tree(t, files)
	const soon = 20 * time.Millisecond
	for after, wait := range map[time.Duration]time.Duration{soon: time.Minute, time.Hour: 50 * time.Millisecond} {
		rep := &slowly{recorder: recorder{t: t}, scan: make(chan struct{}), wait: wait}
		r, _ := repotest.New(t, 2)
		ours(t, r, Options{Targets: []string{dir}, Reporter: rep, ScanAfter: after})
		if rep.early != (after == soon) {
			t.Errorf("after %v: counted while the first file was in work: %v", after, rep.early)
		}
		if !rep.done || rep.scanned.Files != uint64(len(files)) {
			t.Errorf("after %v: counted %+v in the end", after, rep.scanned)
		}
	}
}

// slowly gives the count of files a moment before the first one is done.
type slowly struct {
	recorder
	scan  chan struct{} // closed when all is counted
	wait  time.Duration // for that, at most
	first sync.Once
	early bool // all was counted before the first file was done
}

func (r *slowly) Scanned(s Total, done bool) {
	r.recorder.Scanned(s, done)
	if done {
		close(r.scan)
	}
}

func (r *slowly) Done(it Item) {
	r.first.Do(func() {
		select {
		case <-r.scan:
			r.early = true
		case <-time.After(r.wait):
		}
	})
	r.recorder.Done(it)
}
