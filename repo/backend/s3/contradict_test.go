package s3

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/retry"
)

// ghost is a server that says of files that they are not there, for the first so many questions, and lists them.
type ghost struct {
	misses int64  // how often it says so
	lists  string // status and code of a listing that fails; "": it has all packs, "none": it has none

	gets, listings atomic.Int64
}

func (g *ghost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if prefix := r.URL.Query().Get("prefix"); prefix != "" {
		g.listings.Add(1)
		var status int
		var code string
		if n, _ := fmt.Sscanf(g.lists, "%d %s", &status, &code); n == 2 {
			fail(w, status, code, "told")
			return
		}
		io.WriteString(w, "<ListBucketResult>")
		if g.lists == "" {
			fmt.Fprintf(w, "<Contents><Key>%s</Key><Size>1</Size><LastModified>2026-10-21T07:28:00Z</LastModified></Contents>", prefix)
		}
		io.WriteString(w, "</ListBucketResult>")
		return
	}
	if g.gets.Add(1) <= g.misses {
		fail(w, http.StatusNotFound, "NoSuchKey", "told")
		return
	}
	w.Header().Set("Last-Modified", "Wed, 21 Oct 2026 07:28:00 GMT")
	if r.Header.Get("Range") != "" {
		w.Header().Set("Content-Range", "bytes 0-0/1")
		w.WriteHeader(http.StatusPartialContent)
	}
	io.WriteString(w, "x")
}

// TestListedAndMissing: a server that lists a file and says that it is not there is in trouble, which may pass. Where the
// file is not listed, or nobody may list, it is gone. Locks come and go, so that a listing tells nothing of them.
func TestListedAndMissing(t *testing.T) {
	of := func(kind backend.Kind) backend.File { return backendtest.FileOf(kind, []byte("x")) }
	pack := of(backend.Pack)
	for name, c := range map[string]struct {
		file     backend.File
		lists    string
		class    error // nil: it may pass
		listings int64
	}{
		"listed":            {pack, "", nil, 1},
		"not listed":        {pack, "none", backend.ErrNotExist, 1},
		"listing forbidden": {pack, "403 AccessDenied", backend.ErrNotExist, 1},
		"listing fails":     {pack, "503 SlowDown", nil, 1},
		"index":             {of(backend.Index), "", nil, 1},
		"snapshot":          {of(backend.Snapshot), "", nil, 1},
		"removed snapshot":  {of(backend.Snapshot), "none", backend.ErrNotExist, 1},
		"key":               {of(backend.Key), "", nil, 1},
		"config":            {backend.File{Kind: backend.Config}, "", nil, 1},
		"no repository":     {backend.File{Kind: backend.Config}, "none", backend.ErrNotExist, 1},
		"lock":              {of(backend.Lock), "", backend.ErrNotExist, 0},
	} {
		for _, whole := range []bool{false, true} {
			g := &ghost{misses: 1, lists: c.lists}
			be := fake(t, g.ServeHTTP)
			read := func() error {
				if whole {
					_, err := be.ReadAll(t.Context(), c.file, 1)
					return err
				}
				return be.ReadAt(t.Context(), c.file, make([]byte, 1), 0)
			}
			err := read()
			if c.class == nil && (err == nil || backend.IsPermanent(err)) || c.class != nil && !errors.Is(err, c.class) {
				t.Errorf("%s: %v, want class %v", name, err, c.class)
			}
			if n := g.listings.Load(); n != c.listings {
				t.Errorf("%s: %d listings, want %d", name, n, c.listings)
			}
			if err := read(); err != nil {
				t.Errorf("%s: afterwards: %v", name, err)
			}
		}
	}
}

// TestListedAndMissingPasses: who tries again reads the pack, and does so by a new connection, which a balancer may give
// to another server.
func TestListedAndMissingPasses(t *testing.T) {
	pack := backendtest.FileOf(backend.Pack, []byte("x"))
	g := &ghost{misses: 2}
	conns := map[string]bool{}
	be := fake(t, func(w http.ResponseWriter, r *http.Request) {
		conns[r.RemoteAddr] = true // one request at a time
		g.ServeHTTP(w, r)
	})
	got := make([]byte, 1)
	if err := retry.New(be, retry.Options{}).ReadAt(t.Context(), pack, got, 0); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
	if len(conns) != 3 {
		t.Errorf("%d connections, want one for each try", len(conns))
	}
}

// TestListedAndMissingForGood: what a server lists and never has is gone in the end, and many such packs are not waited for
// one by one.
func TestListedAndMissingForGood(t *testing.T) {
	g := &ghost{misses: 1 << 40}
	be := fake(t, g.ServeHTTP).(*Backend)
	now := time.Now()
	be.contradictions.now = func() time.Time { return now }
	read := func(i int) error {
		return be.ReadAt(t.Context(), backendtest.FileOf(backend.Pack, fmt.Append(nil, i)), make([]byte, 1), 0)
	}
	for i := range maxContradicted {
		if err := read(i); err == nil || backend.IsPermanent(err) || !strings.Contains(err.Error(), "lists") {
			t.Errorf("pack %d, at first: %v", i, err)
		}
		now = now.Add(contradictedFor - time.Second)
		if err := read(i); err == nil || backend.IsPermanent(err) {
			t.Errorf("pack %d, shortly before the end: %v", i, err)
		}
		now = now.Add(time.Second)
		for range 2 {
			if err := read(i); !errors.Is(err, backend.ErrNotExist) {
				t.Errorf("pack %d, after %v: %v", i, contradictedFor, err)
			}
		}
	}
	if err := read(maxContradicted); !errors.Is(err, backend.ErrNotExist) {
		t.Errorf("after %d packs that stayed away: %v", maxContradicted, err)
	}
}

// A pack that was read is waited for again.
func TestListedAndMissingAgain(t *testing.T) {
	pack := backendtest.FileOf(backend.Pack, []byte("x"))
	g := &ghost{misses: 1}
	be := fake(t, g.ServeHTTP).(*Backend)
	now := time.Now()
	be.contradictions.now = func() time.Time { return now }
	for range 2 {
		if err := be.ReadAt(t.Context(), pack, make([]byte, 1), 0); err == nil || backend.IsPermanent(err) {
			t.Errorf("%v, want an error that may pass", err)
		}
		if err := be.ReadAt(t.Context(), pack, make([]byte, 1), 0); err != nil {
			t.Error(err)
		}
		g.misses = g.gets.Load() + 1
		now = now.Add(time.Hour)
	}
}

// A pack that was denied and not asked for again, since the reader left, is waited for the next time too.
func TestListedAndMissingLater(t *testing.T) {
	g := &ghost{misses: 1 << 40}
	be := fake(t, g.ServeHTTP).(*Backend)
	now := time.Now()
	be.contradictions.now = func() time.Time { return now }
	for i, step := range []struct {
		later time.Duration
		gone  bool
	}{{0, false}, {10 * time.Second, false}, {time.Hour, false}, {contradictedFor - time.Second, false}, {time.Second, true}, {time.Hour, true}} {
		now = now.Add(step.later)
		err := be.ReadAt(t.Context(), backendtest.FileOf(backend.Pack, []byte("x")), make([]byte, 1), 0)
		if err == nil || errors.Is(err, backend.ErrNotExist) != step.gone {
			t.Errorf("read %d, %v later: %v, want gone %v", i, step.later, err, step.gone)
		}
	}
}
