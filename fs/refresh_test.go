package fs

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vitrine/cache/indexdb"
	"vitrine/fs/tree/treetest"
	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
	"vitrine/repo/backend/local"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

func TestRow14NewSnapshots(t *testing.T) {
	src := small(t)
	src.AddSnapshot(time.Date(2020, 1, 3, 0, 0, 0, 0, time.UTC), src.Tree(), nil)
	dir := mountTest(t, src, Options{RefreshEvery: 50 * time.Millisecond})
	list := func() string { return sh(t, dir, "ls -1 snapshots; readlink snapshots/latest; ls hosts") }
	list()
	added := src.AddSnapshot(time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC), src.Tree(src.File("new", "new")),
		func(s *snapshot.Snapshot) { s.Hostname = "another" })
	want := "2020-01-02T03:04:05Z\n2020-01-03T00:00:00Z\n2021-01-01T00:00:00Z\nlatest\n2021-01-01T00:00:00Z\nanother\nhost\n"
	eventually(t, func() error {
		if got := list(); got != want {
			return fmt.Errorf("lists: %s", got)
		}
		return nil
	})
	if got := sh(t, dir, "cat snapshots/latest/new"); got != "new" {
		t.Errorf("content of the new snapshot: %q", got)
	}
	src.RemoveSnapshot(added.ID)
	eventually(t, func() error {
		got := list()
		if strings.Contains(got, "2021") || strings.Contains(got, "another") {
			return fmt.Errorf("a removed snapshot is still there: %s", got)
		}
		return nil
	})
}

// hangingSource blocks in the calls that the refresher makes, once it is shut.
type hangingSource struct {
	*treetest.Source
	hangs string        // the method
	shut  chan struct{} // closed: from now on
	hung  chan struct{} // gets a token when a call blocks
}

func (h *hangingSource) wait(ctx context.Context, method string) error {
	select {
	case <-h.shut:
	default:
		return nil
	}
	if h.hangs != method {
		return nil
	}
	select {
	case h.hung <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return ctx.Err()
}

func (h *hangingSource) ListFiles(ctx context.Context, kind backend.Kind) ([]backend.Info, error) {
	if err := h.wait(ctx, "ListFiles"); err != nil {
		return nil, err
	}
	return h.Source.ListFiles(ctx, kind)
}

func (h *hangingSource) LoadSnapshot(ctx context.Context, id blob.ID) (*snapshot.Snapshot, error) {
	if err := h.wait(ctx, "LoadSnapshot"); err != nil {
		return nil, err
	}
	return h.Source.LoadSnapshot(ctx, id)
}

func (h *hangingSource) RefreshIndex(ctx context.Context) error {
	if err := h.wait(ctx, "RefreshIndex"); err != nil {
		return err
	}
	return h.Source.RefreshIndex(ctx)
}

// Whatever the refresher waits for, readers do not.
func TestRow14RefreshBlocksNobody(t *testing.T) {
	for _, method := range []string{"ListFiles", "LoadSnapshot", "RefreshIndex"} {
		t.Run(method, func(t *testing.T) {
			src := small(t)
			h := &hangingSource{Source: src, hangs: method, shut: make(chan struct{}), hung: make(chan struct{}, 1)}
			dir := mountTest(t, h, Options{RefreshEvery: time.Millisecond})
			close(h.shut)
			src.AddSnapshot(time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC), src.Tree(), nil)
			<-h.hung
			start := time.Now()
			got := sh(t, dir, "ls -lR . >/dev/null; cat snapshots/latest/f; ls snapshots")
			if d := time.Since(start); d > 10*time.Second {
				t.Errorf("reading took %v", d)
			}
			if want := "hello\n2020-01-02T03:04:05Z\nlatest\n"; got != want {
				t.Errorf("while the refresher hangs: %q, want %q", got, want)
			}
		})
	}
}

// The status tells how many index files the last look has read.
func TestRefreshCountsIndexFiles(t *testing.T) {
	src := small(t)
	// Each look finds a snapshot, so that however late this test asks, the last one has read something.
	growing := &growingSource{Source: src}
	_, s := mountServer(t, growing, Options{
		RefreshEvery: 20 * time.Millisecond,
		Traffic:      func() Traffic { return Traffic{IndexFiles: 3 * int64(src.IndexRefreshes())} },
	})
	if got := s.Status().Refresh.NewIndexFiles; got != 0 {
		t.Errorf("%d new index files before there is something new", got)
	}
	growing.grows.Store(true)
	eventually(t, func() error {
		if got := s.Status().Refresh.NewIndexFiles; got != 3 {
			return fmt.Errorf("%d new index files, want 3", got)
		}
		return nil
	})
}

// growingSource has one snapshot more each time when its snapshots are listed, once it grows.
type growingSource struct {
	*treetest.Source
	grows  atomic.Bool
	number int // only the refresher uses it
}

func (g *growingSource) ListFiles(ctx context.Context, kind backend.Kind) ([]backend.Info, error) {
	if kind == backend.Snapshot && g.grows.Load() {
		g.number++
		g.AddSnapshot(time.Date(2021, 1, 1, 0, 0, g.number, 0, time.UTC), blob.Hash(nil), nil)
	}
	return g.Source.ListFiles(ctx, kind)
}

// What the kernel knows of the lists goes when they change, without waiting for it to expire.
func TestRow14KernelIsNotified(t *testing.T) {
	src := small(t)
	dir, s := mountServer(t, src, Options{RefreshEvery: -1})
	refresh := func() {
		changed, err := s.nodes.tree.Refresh(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changed {
			s.notify(c)
		}
	}
	look := func() string {
		target, err := os.Readlink(dir + "/snapshots/latest")
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(dir + "/snapshots")
		if err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir + "/snapshots")
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s %v %v", target, entries, info.ModTime().Year() > 2020)
	}
	before := look()
	added := src.AddSnapshot(time.Date(2020, 2, 1, 0, 0, 0, 0, time.UTC), src.Tree(src.File("g", "x")), nil)
	time.Sleep(listTimeout)
	look() // and from now on the kernel answers from memory for a second
	refresh()
	want := "2020-02-01T00:00:00Z [d 2020-01-02T03:04:05Z/ d 2020-02-01T00:00:00Z/ L latest] true"
	if got := look(); got != want || got == before {
		t.Errorf("right after a new snapshot: %s, want %s", got, want)
	}
	gone := dir + "/snapshots/2020-02-01T00:00:00Z"
	if _, err := os.Stat(gone + "/g"); err != nil {
		t.Error(err)
	}
	src.RemoveSnapshot(added.ID)
	refresh()
	if got, want := look(), "2020-01-02T03:04:05Z [d 2020-01-02T03:04:05Z/ L latest] true"; got != want {
		t.Errorf("right after its removal: %s, want %s", got, want)
	}
	eventually(t, func() error { // see notify
		if _, err := os.Stat(gone); !os.IsNotExist(err) {
			return fmt.Errorf("long after its removal: %v", err)
		}
		return nil
	})
}

// openCounted opens a repository that restic made, with the index that the program uses, on a
// backend that counts and fails at will.
func openCounted(t *testing.T, repoDir string) (*repo.Repository, *fault.Backend) {
	t.Helper()
	inner, err := local.Open(repoDir)
	if err != nil {
		t.Fatal(err)
	}
	be := fault.New(inner, nil)
	r, err := repo.Open(t.Context(), be, repo.Options{
		Password: []byte(resticPassword),
		OpenIndex: func(ctx context.Context, r *repo.Repository) (repo.Index, error) {
			return indexdb.OpenMemory(ctx, r, indexdb.Options{})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, be
}

// Of a repository with new snapshots, only the new index files and the new snapshot files are
// read, by the refresher; who walks through a new snapshot reads packs only.
func TestRow14OnlyNewFilesAreRead(t *testing.T) {
	dir := workDir(t)
	zoo(t)
	run(t, "/", "cp", "-a", fixture.repo, dir+"/repo")
	r, be := openCounted(t, dir+"/repo")
	mnt, s := mountServer(t, r, Options{RefreshEvery: -1})
	sh(t, mnt, "ls -lR snapshots/latest/ >/dev/null")
	files := func() string { return sh(t, dir, "cd repo; ls index snapshots | grep -v :") }
	known := files()
	sh(t, dir, "mkdir src; echo new >src/new")
	restic(t, dir+"/repo", dir, "backup", "src")
	want := make(map[string]int) // names of new files
	for _, name := range lines(files()) {
		if name != "" && !strings.Contains(known, name) {
			want[name] = 1
		}
	}
	if len(want) != 2 {
		t.Fatalf("restic made %d files", len(want))
	}

	from := be.Calls()
	if _, err := s.nodes.tree.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	lists := make(map[backend.Kind]int)
	for _, c := range be.Trace()[from:] {
		switch {
		case c.Op == fault.List:
			lists[c.File.Kind]++
		case want[c.File.Name] == 1:
			want[c.File.Name]--
		default:
			t.Errorf("the refresher calls %v %v", c.Op, c.File)
		}
	}
	if lists[backend.Index] != 1 || lists[backend.Snapshot] != 1 || len(lists) != 2 {
		t.Errorf("the refresher lists %v", lists)
	}
	for name, left := range want {
		if left != 0 {
			t.Errorf("the refresher did not read %s", name)
		}
	}
	from = be.Calls()
	if got := sh(t, mnt, "cd snapshots; cat $(ls | tail -2 | head -1)/src/new"); got != "new\n" {
		t.Errorf("content of the new file: %q", got)
	}
	for _, c := range be.Trace()[from:] {
		if c.File.Kind != backend.Pack {
			t.Errorf("a reader of the new snapshot calls %v %v", c.Op, c.File)
		}
	}
}
