package fs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"vitrine/cache/blobcache"
	"vitrine/fs/tree"
	"vitrine/fs/tree/treetest"
	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/slow"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
	"vitrine/repo/snapshot"
)

const (
	bigChunks = 24
	bigPath   = "snapshots/2020-01-02T03:04:05Z/big"
)

// bigFile makes a repository with a snapshot of one file of several chunks, every third of which
// can be compressed, behind a store with the limits.
func bigFile(t testing.TB, limits slow.Limits) (content []byte, r *repo.Repository, be *slow.Backend) {
	t.Helper()
	first, mem := repotest.New(t, 2)
	random := rand.NewChaCha8([32]byte{1})
	n := treetest.Node("big", snapshot.File)
	var root blob.ID
	err := first.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
		for i := range bigChunks {
			p := make([]byte, 300_000+i*7919%400_000)
			if random.Read(p); i%3 == 0 {
				p = bytes.Repeat(p[:1000], len(p)/1000)
			}
			saved, err := w.SaveBlob(ctx, blob.Data, p)
			if err != nil {
				return err
			}
			n.Content = append(n.Content, saved.ID)
			content = append(content, p...)
		}
		n.Size = uint64(len(content))
		var e snapshot.TreeEncoder
		if err := e.Add(&n); err != nil {
			return err
		}
		saved, err := w.SaveBlob(ctx, blob.Tree, e.Finish())
		root = saved.ID
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sn := &snapshot.Snapshot{Time: time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), Tree: &root, Paths: []string{"/big"}, Hostname: "h", Username: "u"}
	if _, err := first.SaveSnapshot(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	be = slow.New(mem, limits)
	return content, repotest.Open(t, be), be
}

// streaming returns nodes that read ahead until the end of the test.
func streaming(t *testing.T, src Source) *nodes {
	t.Helper()
	n := bareNodes(t, src, nil)
	n.chunks = blobcache.NewChunks(32 << 20)
	s := newStreamer(src, n.chunks, newTurns(), n.fetched, &n.stats.ahead)
	n.ahead = s
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); s.close(); <-done; n.chunks.Close() })
	return n
}

func TestStream(t *testing.T) {
	before := runtime.NumGoroutine()
	content, r, be := bigFile(t, slow.Limits{})
	t.Run("in order", func(t *testing.T) {
		n := streaming(t, r)
		id := find(t, n, bigPath).NodeId
		start := be.Counts()
		for off := 0; off < len(content); off += 1 << 20 {
			want := content[off:min(off+1<<20, len(content))]
			if got, st := readNode(n, id, uint64(off), 1<<20); st != fuse.OK || got != string(want) {
				t.Fatalf("at %d: wrong bytes, %v", off, st)
			}
		}
		end := be.Counts()
		if n := end.Bytes - start.Bytes; n > int64(len(content)) {
			t.Errorf("%d bytes were fetched for a file of %d", n, len(content))
		}
		if n := end.Requests - start.Requests; n >= bigChunks {
			t.Errorf("%d requests for %d chunks", n, bigChunks)
		}
		if n.stats.ahead.load().Bytes == 0 {
			t.Error("nothing was read ahead")
		}
	})
	t.Run("any order, many readers", func(t *testing.T) {
		n := streaming(t, r)
		id := find(t, n, bigPath).NodeId
		var wg sync.WaitGroup
		for reader := range 8 {
			wg.Go(func() {
				for k := range 40 {
					off := k << 18
					if reader%2 == 0 {
						off = rand.IntN(len(content))
					}
					want := content[min(off, len(content)):min(off+1<<18, len(content))]
					if got, st := readNode(n, id, uint64(off), 1<<18); st != fuse.OK || got != string(want) {
						t.Errorf("at %d: wrong bytes, %v", off, st)
					}
				}
			})
		}
		wg.Wait()
	})
	settle(t, before)
}

// What is damaged is an error for its own bytes, whether it was read ahead or not.
func TestStreamDamage(t *testing.T) {
	content, r, be := bigFile(t, slow.Limits{})
	n := streaming(t, r)
	out := find(t, n, bigPath)
	l, err := n.tree.Layout(t.Context(), tree.NodeID(out.NodeId))
	if err != nil {
		t.Fatal(err)
	}
	bad := l.Chunk(bigChunks / 2)
	loc, ok, err := r.LookupBlob(blob.Handle{Type: blob.Data, ID: bad.ID})
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	pack := backend.File{Kind: backend.Pack, Name: loc.Pack.String()}
	p, err := be.ReadAll(t.Context(), pack, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	p[loc.OffsetBytes+100] ^= 1
	if err := be.Remove(t.Context(), pack); err != nil {
		t.Fatal(err)
	}
	if err := be.Save(t.Context(), pack, p); err != nil {
		t.Fatal(err)
	}
	for i := range l.Len() {
		c := l.Chunk(i)
		got, st := readNode(n, out.NodeId, c.Start, uint32(c.End-c.Start))
		if i == bigChunks/2 {
			if st != fuse.EIO {
				t.Errorf("the damaged chunk: %v", st)
			}
		} else if st != fuse.OK || got != string(content[c.Start:c.End]) {
			t.Errorf("chunk %d: wrong bytes, %v", i, st)
		}
	}
}

func TestStreamMounted(t *testing.T) {
	before := runtime.NumGoroutine()
	content, r, _ := bigFile(t, slow.Limits{Latency: 3 * time.Millisecond})
	want := fmt.Sprintf("%x", sha256.Sum256(content))
	t.Run("", func(t *testing.T) {
		dir, s := mountServer(t, r, Options{CacheBytes: 48 << 20})
		for range 2 { // the second time after the kernel forgot
			if got := sh(t, "/", "cd "+dir+"; for i in 1 2 3; do sha256sum <"+bigPath+" & done; wait"); got != fmt.Sprintf("%[1]s  -\n%[1]s  -\n%[1]s  -\n", want) {
				t.Errorf("got %s, want %s", got, want)
			}
			f, err := os.Open(dir + "/" + bigPath)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close()); err != nil {
				t.Error(err)
			}
		}
		st := s.nodes.chunks.Stats()
		if st.Promised == 0 || st.Bytes > st.BudgetBytes {
			t.Errorf("%+v", st)
		}
	})
	settle(t, before)
}

// A mount ends at once although much is being fetched ahead.
func TestStreamUnmount(t *testing.T) {
	before := runtime.NumGoroutine()
	_, r, be := bigFile(t, slow.Limits{Latency: 200 * time.Millisecond, BytesPerSecond: 1 << 20})
	dir, s := mountServer(t, r, Options{})
	start := be.Counts().Requests
	sh(t, "/", "head -c 1M "+dir+"/"+bigPath+" >/dev/null")
	if be.Counts().Requests-start < 2 {
		t.Error("nothing is being read ahead")
	}
	began := time.Now()
	if err := s.Unmount(); err != nil {
		t.Error(err)
	}
	s.Wait()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	settle(t, before)
}
