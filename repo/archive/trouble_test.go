package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
	"vitrine/repo/snapshot"
	"vitrine/repo/source"
	"vitrine/repo/source/pattern"
	"vitrine/repo/source/sourcetest"
)

// names lists a tree of the repository, directories with a slash behind.
func names(t testing.TB, r *repo.Repository, tree blob.ID, dir string) []string {
	t.Helper()
	nodes, err := r.LoadTree(t.Context(), tree)
	check(t, err)
	var list []string
	for _, n := range nodes {
		if n.Subtree == nil {
			list = append(list, dir+n.Name)
			continue
		}
		list = append(append(list, dir+n.Name+"/"), names(t, r, *n.Subtree, dir+n.Name+"/")...)
	}
	return list
}

// asNobody gives up root for the rest of the test.
func asNobody(t *testing.T) {
	t.Helper()
	check(t, syscall.Setresgid(65534, 65534, 0))
	check(t, syscall.Setresuid(65534, 65534, 0))
	t.Cleanup(func() {
		check(t, syscall.Setresuid(0, 0, 0))
		check(t, syscall.Setresgid(0, 0, 0))
	})
}

// TestUnreadable backs up, not as root, what may not be read. The rest is stored.
func TestUnreadable(t *testing.T) {
	dir := tree(t, map[string]string{
		"noread/f": "1", "noexec/f": "2", "noexec/sub/": "", "ok/secret": "3", "ok/fine": "4", "ok/large": string(sourcetest.Noise(1, 1<<20)),
	})
	check(t, os.Chmod(dir, 0o755))
	for name, mode := range map[string]os.FileMode{"ok/secret": 0, "ok/large": 0o200, "noread": 0o311, "noexec": 0o644} {
		check(t, os.Chmod(filepath.Join(dir, name), mode))
	}
	check(t, filepath.Walk(dir, func(p string, _ os.FileInfo, err error) error {
		return errors.Join(err, os.Chown(p, 65534, 65534))
	}))
	r, _ := repotest.New(t, 2)
	t.Chdir(dir)
	t.Run("nobody", func(t *testing.T) {
		asNobody(t)
		for _, tc := range []struct {
			targets, want string
			errors        []string
		}{
			{".", "noexec/ ok/ ok/fine", []string{"noexec/f", "noexec/sub", "noread", "ok/large", "ok/secret"}},
			{"noread/f ok/secret", "noread/ noread/f ok/", []string{"ok/secret"}},
			{"noexec/f ok/fine", "noexec/ ok/ ok/fine", []string{"noexec/f"}},
		} {
			rep := &recorder{t: t, expect: true}
			res := ours(t, r, Options{Targets: strings.Fields(tc.targets), Reporter: rep})
			check(t, r.RefreshIndex(t.Context()))
			if got := strings.Join(names(t, r, *res.Snapshot.Tree, ""), " "); got != tc.want {
				t.Errorf("%s: stored %s, want %s", tc.targets, got, tc.want)
			}
			slices.Sort(rep.errors)
			if res.Errors != len(tc.errors) || len(rep.errors) != len(tc.errors) {
				t.Errorf("%s: %d errors: %q", tc.targets, res.Errors, rep.errors)
				continue
			}
			for _, want := range tc.errors {
				if !slices.ContainsFunc(rep.errors, func(s string) bool { return strings.Contains(s, want+": permission denied") }) {
					t.Errorf("%s: nothing about %s in %q", tc.targets, want, rep.errors)
				}
			}
		}
		if _, err := Run(t.Context(), r, Options{Targets: []string{"noread"}}); !errors.Is(err, ErrEmpty) {
			t.Errorf("nothing readable: %v", err)
		}
	})
}

// TestChangedSinceListed has entries that are not what the listing of their directory said.
func TestChangedSinceListed(t *testing.T) {
	base := tree(t, map[string]string{"dir/in": "1", "file": "2", "z": "3"})
	check(t, os.Symlink("file", filepath.Join(base, "link")))
	check(t, unix.Mkfifo(filepath.Join(base, "fifo"), 0o644))
	for _, tc := range []struct {
		listed source.Entry
		want   string // stored beside z
		err    string
	}{
		{source.Entry{Name: "file", Type: unix.DT_REG}, "file", ""},
		{source.Entry{Name: "file", Type: unix.DT_UNKNOWN}, "file", ""},
		{source.Entry{Name: "file", Type: unix.DT_DIR}, "file", ""},
		{source.Entry{Name: "link", Type: unix.DT_DIR}, "link", ""},
		{source.Entry{Name: "dir", Type: unix.DT_UNKNOWN}, "dir/ dir/in", ""},
		{source.Entry{Name: "dir", Type: unix.DT_REG}, "", "another type"},
		{source.Entry{Name: "dir", Type: unix.DT_LNK}, "", "another type"},
		{source.Entry{Name: "link", Type: unix.DT_REG}, "", "another type"},
		{source.Entry{Name: "fifo", Type: unix.DT_REG}, "", "another type"},
		{source.Entry{Name: "link", Type: unix.DT_FIFO}, "link", ""},
		{source.Entry{Name: "gone", Type: unix.DT_REG}, "", "vanished"},
		{source.Entry{Name: "gone", Type: unix.DT_LNK}, "", "vanished"},
		{source.Entry{Name: "gone", Type: unix.DT_DIR}, "", "no such file"},
		{source.Entry{Name: "gone", Type: unix.DT_UNKNOWN}, "", "vanished"},
	} {
		t.Run(fmt.Sprint(tc.listed), func(t *testing.T) {
			rep := &recorder{t: t, expect: true}
			r, store, err := engine(t, Options{Reporter: rep}, func(ctx context.Context, r *run) {
				w := &walker{log: r.log, groups: 10, backwards: &r.backwards}
				at, err := w.waypoint(base)
				check(t, err)
				defer at.release()
				b := &builder{run: r, cur: &dir{slots: -1}}
				check(t, w.entries(ctx, at, []source.Entry{tc.listed, {Name: "z", Type: unix.DT_REG}}, b))
				b.leave(ctx)
			})
			check(t, err)
			var got []string
			var list func(id blob.ID, prefix string)
			list = func(id blob.ID, prefix string) {
				nodes, err := snapshot.DecodeTree(store.blobs[blob.Handle{Type: blob.Tree, ID: id}])
				check(t, err)
				for _, n := range nodes {
					if n.Subtree != nil {
						got = append(got, prefix+n.Name+"/")
						list(*n.Subtree, prefix+n.Name+"/")
					} else {
						got = append(got, prefix+n.Name)
					}
				}
			}
			list(*r.root, "")
			if want := strings.TrimSpace(tc.want + " z"); strings.Join(got, " ") != want {
				t.Errorf("stored %q, want %q", got, want)
			}
			if tc.err == "" && len(rep.errors) > 0 || tc.err != "" && (len(rep.errors) != 1 || !strings.Contains(rep.errors[0], tc.err)) {
				t.Errorf("errors %q, want %q", rep.errors, tc.err)
			}
		})
	}
}

func TestTargets(t *testing.T) {
	dir := tree(t, map[string]string{"a/f": "1", "empty/": ""})
	t.Chdir(dir)
	r, be := repotest.New(t, 2)
	rep := &recorder{t: t, expect: true}
	res := ours(t, r, Options{Targets: []string{"none", "a", "a/none", ""}, Reporter: rep})
	if res.Errors != 3 || len(rep.errors) != 3 || !strings.Contains(rep.errors[0], "none does not exist") {
		t.Errorf("%d errors: %q", res.Errors, rep.errors)
	}
	if diff := cmp.Diff([]string{filepath.Join(dir, "a")}, res.Snapshot.Paths); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
	before := countFiles(t, be, backend.Snapshot)
	for name, tc := range map[string]struct {
		o    Options
		want error
	}{
		"all missing":     {Options{Targets: []string{"none", "nothing"}}, ErrNoTargets},
		"no targets":      {Options{}, ErrNoTargets},
		"empty directory": {Options{Targets: []string{"empty/."}}, nil},
		"all excluded":    {Options{Targets: []string{"a"}, Filter: &source.Filter{Patterns: []*pattern.List{mustCompile(t, "a")}}}, ErrEmpty},
	} {
		tc.o.DryRun = true
		if _, err := Run(t.Context(), r, tc.o); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Chdir("empty")
	if _, err := Run(t.Context(), r, Options{Targets: []string{"."}}); !errors.Is(err, ErrEmpty) {
		t.Errorf("nothing in the current directory: %v", err)
	}
	if after := countFiles(t, be, backend.Snapshot); after != before {
		t.Errorf("%d snapshots more", after-before)
	}
}

func mustCompile(t testing.TB, patterns ...string) *pattern.List {
	t.Helper()
	l, err := pattern.Compile(patterns, false)
	check(t, err)
	return l
}

func countFiles(t testing.TB, be backend.Backend, kind backend.Kind) int {
	t.Helper()
	n := 0
	check(t, be.List(t.Context(), kind, func(backend.Info) error { n++; return nil }))
	return n
}

// openFiles counts this process's descriptors.
func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	return len(entries)
}

// canceller ends the backup after a number of items.
type canceller struct {
	silent
	left   atomic.Int64
	cancel context.CancelCauseFunc
}

var errStop = errors.New("stopped by the test")

func (c *canceller) Done(Item) {
	if c.left.Add(-1) == 0 {
		c.cancel(errStop)
	}
}
func (c *canceller) Read(int) { c.Done(Item{}) }

// TestInterrupted ends backups at many points. No snapshot is left, nor a descriptor or goroutine, and
// the next backup is whole.
func TestInterrupted(t *testing.T) {
	dir := scratch(t)
	sourcetest.MakeZoo(t, dir)
	check(t, os.WriteFile(filepath.Join(dir, "large"), sourcetest.Noise(9, 20<<20), 0o644)) // two segments
	want := contentOnDisk(t, dir)
	t.Chdir(dir)
	r, be := repotest.New(t, 2)
	files, routines := openFiles(t), runtime.NumGoroutine()
	for n := int64(1); ; n = n*3/2 + 1 {
		ctx, cancel := context.WithCancelCause(t.Context())
		rep := &canceller{cancel: cancel}
		rep.left.Store(n)
		_, err := Run(ctx, r, Options{Targets: []string{"."}, Reporter: rep})
		cancel(nil)
		check(t, r.RefreshIndex(t.Context()))
		if now := openFiles(t); now != files {
			t.Fatalf("stopped after %d: %d descriptors, before %d", n, now, files)
		}
		if rep.left.Load() > 0 {
			check(t, err)
			break
		}
		if err != nil && !errors.Is(err, errStop) {
			t.Fatalf("stopped after %d: %v", n, err)
		}
		if snapshots := countFiles(t, be, backend.Snapshot); err != nil && snapshots > 0 {
			t.Fatalf("stopped after %d: %d snapshots", n, snapshots)
		}
		if err == nil {
			break // stopped by the last item, when all was done
		}
	}
	for i := 0; runtime.NumGoroutine() > routines && i < 2000; i++ {
		time.Sleep(10 * time.Millisecond)
	}
	if now := runtime.NumGoroutine(); now > routines {
		t.Errorf("%d goroutines, before %d", now, routines)
	}
	res := ours(t, r, Options{Targets: []string{"."}})
	check(t, r.RefreshIndex(t.Context()))
	got := make(map[string]string)
	contentOf(t, r, *res.Snapshot.Tree, "", got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-source +repository):\n%s", diff)
	}
}

// TestBackendFails lets the i-th operation fail, for every i. What a backup that failed leaves behind
// harms nobody: the next one succeeds and reads back.
func TestBackendFails(t *testing.T) {
	dir := tree(t, map[string]string{"a/f": "1", "a/b/g": "2", "c": "3", "large": string(sourcetest.Noise(1, 9<<20))})
	want := contentOnDisk(t, dir)
	t.Chdir(dir)
	for i := 0; ; i++ {
		be := mem.New()
		repotest.Init(t, be, 2)
		flaky := fault.New(be, nil)
		o := repotest.Options()
		o.PackBytes = repo.MinPackBytes
		r, err := repo.Open(t.Context(), flaky, o)
		check(t, err)
		defer r.Close()
		opened := flaky.Calls()
		flaky.SetPlan(fault.Nth(opened+i, fault.Before))
		_, err = Run(t.Context(), r, Options{Targets: []string{"."}})
		injected := flaky.Calls() > opened+i
		if err != nil && !errors.Is(err, fault.ErrInjected) {
			t.Errorf("operation %d fails: %v", i, err)
		}
		if err == nil && injected && countFiles(t, be, backend.Snapshot) != 1 {
			t.Errorf("operation %d fails: no error and no snapshot", i)
		}
		flaky.SetPlan(nil)
		check(t, r.RefreshIndex(t.Context()))
		res := ours(t, r, Options{Targets: []string{"."}})
		check(t, r.RefreshIndex(t.Context()))
		got := make(map[string]string)
		contentOf(t, r, *res.Snapshot.Tree, "", got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("operation %d fails (-source +repository):\n%s", i, diff)
		}
		if !injected {
			break
		}
	}
}

func TestDryRun(t *testing.T) {
	dir := scratch(t)
	sourcetest.MakeZoo(t, dir)
	t.Chdir(dir)
	r, be := repotest.New(t, 2)
	o := Options{Targets: []string{"."}, DryRun: true}
	dry := ours(t, r, o)
	for _, kind := range []backend.Kind{backend.Pack, backend.Index, backend.Snapshot} {
		if n := countFiles(t, be, kind); n != 0 {
			t.Errorf("a dry run wrote %d %vs", n, kind)
		}
	}
	o.DryRun = false
	wet := ours(t, r, o)
	dry.Summary.BackupStart, dry.Summary.BackupEnd = wet.Summary.BackupStart, wet.Summary.BackupEnd
	if diff := cmp.Diff(wet.Summary, dry.Summary); diff != "" {
		t.Errorf("summary (-wet +dry):\n%s", diff)
	}
	if *dry.Snapshot.Tree != *wet.Snapshot.Tree || !dry.Snapshot.ID.IsZero() || wet.Snapshot.ID.IsZero() {
		t.Errorf("dry %+v\nwet %+v", dry.Snapshot, wet.Snapshot)
	}
	check(t, r.RefreshIndex(t.Context()))
	o.DryRun = true
	if s := ours(t, r, o).Summary; s.FilesUnmodified != s.TotalFilesProcessed || s.TreeBlobs != 0 {
		t.Errorf("dry run of what is stored: %+v", s)
	}
}

func TestSkipIfUnchanged(t *testing.T) {
	dir := tree(t, map[string]string{"a/f": "1"})
	t.Chdir(dir)
	r, be := repotest.New(t, 2)
	o := Options{Targets: []string{"a"}, SkipIfUnchanged: true, Host: "h"}
	for i, step := range []struct {
		change  func()
		skipped bool
	}{
		{func() {}, false},
		{func() {}, true},
		{func() { check(t, os.WriteFile("a/g", nil, 0o644)) }, false},
		{func() {}, true},
	} {
		step.change()
		check(t, r.RefreshIndex(t.Context()))
		before := countFiles(t, be, backend.Snapshot)
		res := ours(t, r, o)
		if res.Skipped != step.skipped || (countFiles(t, be, backend.Snapshot) == before) != step.skipped || res.Snapshot.ID.IsZero() != step.skipped {
			t.Errorf("step %d: %+v", i, res)
		}
	}
}

// TestParentIsDamaged loses chunks, then trees of the parent: files are read again, and told of.
func TestParentIsDamaged(t *testing.T) {
	dir := tree(t, map[string]string{"old": "1", "d/deep": "2"})
	t.Chdir(dir)
	r, be := repotest.New(t, 2)
	o := Options{Targets: []string{"."}, Host: "h"}
	ours(t, r, o)
	check(t, r.RefreshIndex(t.Context()))
	first, err := r.IndexFiles(t.Context())
	check(t, err)
	check(t, os.WriteFile("new", []byte("3"), 0o644))
	ours(t, r, o)
	// The second index knows the new file and the root tree, but neither the old chunks nor d.
	check(t, be.Remove(t.Context(), backend.File{Kind: backend.Index, Name: first[0].Name}))
	check(t, r.RefreshIndex(t.Context()))
	var log bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	res := ours(t, r, o)
	for _, want := range []string{"a chunk of an unchanged file is missing", "a directory of the parent snapshot cannot be read"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log does not tell %q:\n%s", want, log.String())
		}
	}
	// restic counts a file that is read again and found the same as unmodified; d/deep has no old node.
	if s := res.Summary; s.DataBlobs != 2 || s.TreeBlobs != 1 || s.FilesUnmodified != 2 || s.FilesNew != 1 || s.DirsUnmodified != 1 {
		t.Errorf("%+v", s)
	}
	check(t, r.RefreshIndex(t.Context()))
	got := make(map[string]string)
	contentOf(t, r, *res.Snapshot.Tree, "", got)
	if diff := cmp.Diff(contentOnDisk(t, dir), got); diff != "" {
		t.Errorf("(-source +repository):\n%s", diff)
	}
}

// loseData removes all packs with data, and makes a new index of the others.
func loseData(t *testing.T, r *repo.Repository, be backend.Backend) {
	t.Helper()
	infos, err := r.IndexFiles(t.Context())
	check(t, err)
	packs := make(map[blob.ID]bool)
	for _, info := range infos {
		id, err := blob.ParseID(info.Name)
		check(t, err)
		check(t, r.LoadIndexFile(t.Context(), id, func(e blob.Entry) error {
			if e.Type == blob.Data {
				packs[e.Pack] = true
			}
			return nil
		}))
		check(t, r.RemoveFile(t.Context(), backend.Index, id))
	}
	for id := range packs {
		check(t, be.Remove(t.Context(), backend.File{Kind: backend.Pack, Name: id.String()}))
	}
	check(t, r.RefreshIndex(t.Context()))
	_, err = r.Adopt(t.Context())
	check(t, err)
	check(t, r.RefreshIndex(t.Context()))
}

// TestManyLosses: when the parent lacks thousands of chunks, the first are named, the others counted, and all are named for who asks.
func TestManyLosses(t *testing.T) {
	files := make(map[string]string)
	for i := range namedLosses + 25 {
		files[fmt.Sprintf("d%d/f", i%3)+fmt.Sprint(i)] = fmt.Sprint("content ", i)
	}
	t.Chdir(tree(t, files))
	for _, level := range []slog.Level{slog.LevelWarn, slog.LevelInfo} {
		r, be := repotest.New(t, 2)
		o := Options{Targets: []string{"."}, Host: "h"}
		first := ours(t, r, o)
		loseData(t, r, be)
		var log bytes.Buffer
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))
		res := ours(t, r, o)
		if *res.Snapshot.Tree != *first.Snapshot.Tree || res.Summary.DataBlobs != int64(len(files)) {
			t.Errorf("%+v", res)
		}
		named, rest := strings.Count(log.String(), "a chunk of an unchanged file is missing"), strings.Count(log.String(), "of 25 more files and directories of the parent snapshot")
		wantNamed, wantRest := namedLosses, 1
		if level == slog.LevelInfo {
			wantNamed, wantRest = len(files), 0
		}
		if warned := strings.Count(log.String(), "level=WARN"); named != wantNamed || rest != wantRest || warned != namedLosses+wantRest {
			t.Errorf("level %v: %d files are named, %d lines of the others, %d warnings:\n%s", level, named, rest, warned, log.String())
		}
	}
}

func TestFindParent(t *testing.T) {
	r, be := repotest.New(t, 2)
	day := func(n int) time.Time { return time.Date(2024, 1, n, 0, 0, 0, 0, time.UTC) }
	id := blob.Hash(nil)
	saved := make(map[int]blob.ID)
	for _, s := range []struct {
		day   int
		host  string
		paths []string
	}{
		{1, "h", []string{"/a"}}, {2, "h", []string{"/a", "/b"}}, {3, "other", []string{"/a"}}, {4, "h", []string{"/a"}}, {5, "h", []string{"/b"}}, {9, "h", []string{"/a"}},
	} {
		sn := &snapshot.Snapshot{Time: day(s.day), Hostname: s.host, Paths: s.paths, Tree: &id, Tags: []string{fmt.Sprint(s.day)}}
		var err error
		saved[s.day], err = r.SaveSnapshot(t.Context(), sn)
		check(t, err)
	}
	check(t, be.Save(t.Context(), backend.File{Kind: backend.Snapshot, Name: id.String()}, []byte("damaged")))
	for _, tc := range []struct {
		host, paths string
		notAfter    int
		want        int // 0: none
	}{
		{"h", "/a", 9, 9}, {"h", "/a", 8, 4}, {"h", "/a", 3, 2}, {"h", "/b", 30, 5}, {"h", "/b", 4, 2}, {"h", "/b /a", 30, 2}, {"other", "/a", 30, 3},
		{"", "/a", 30, 0}, {"h", "/c", 30, 0}, {"h", "/a /c", 30, 9}, {"h", "/c /a", 8, 4}, {"h", "/a /b /c", 30, 2},
		{"h", "/c /d", 30, 0}, {"other", "/a", 2, 0},
	} {
		var log bytes.Buffer
		sn, err := FindParent(t.Context(), r, tc.host, strings.Fields(tc.paths), day(tc.notAfter), slog.New(slog.NewTextHandler(&log, nil)))
		check(t, err)
		if (sn == nil) != (tc.want == 0) || sn != nil && sn.ID != saved[tc.want] {
			t.Errorf("%+v: %+v", tc, sn)
		}
		if !strings.Contains(log.String(), "cannot be read") {
			t.Errorf("nothing about the damaged snapshot: %s", log.String())
		}
	}
}

// TestSnapshot looks at what is noted beside the tree, and at the totals that a parent gives.
func TestSnapshot(t *testing.T) {
	dir := tree(t, map[string]string{"a/f": "1", "b": "22"})
	t.Chdir(dir)
	r, _ := repotest.New(t, 2)
	o := Options{
		Targets: []string{"."}, Host: "h", Tags: []string{"x", "y z"}, Excludes: []string{"*.o"},
		Time: time.Date(2012, 11, 1, 22, 8, 41, 5, time.Local), ProgramVersion: "vitrine test",
	}
	first := ours(t, r, o)
	check(t, r.RefreshIndex(t.Context()))
	o.Time = o.Time.Add(time.Hour)
	rep := &recorder{t: t}
	o.Reporter = rep
	second := ours(t, r, o)
	sn, err := r.LoadSnapshot(t.Context(), second.Snapshot.ID)
	check(t, err)
	want := snapshot.Snapshot{
		Time: o.Time, Parent: &first.Snapshot.ID, Tree: first.Snapshot.Tree, Paths: []string{dir}, Hostname: "h", Username: "root",
		Excludes: o.Excludes, Tags: o.Tags, ProgramVersion: o.ProgramVersion, ID: sn.ID, Summary: sn.Summary,
	}
	if diff := cmp.Diff(&want, sn); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s := sn.Summary; s.BackupStart.IsZero() || s.BackupEnd.Before(s.BackupStart) || s.TotalFilesProcessed != 2 || s.TotalBytesProcessed != 3 {
		t.Errorf("summary %+v", s)
	}
	total := Total{Files: 2, Dirs: 1, Bytes: 3}
	if rep.guess.Guessed = false; rep.guess != total {
		t.Errorf("totals from the parent: %+v", rep.guess)
	}
	if !rep.done || rep.scanned != total {
		t.Errorf("totals: %+v", rep.scanned)
	}
}
