package sftp_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/sftp/sshdtest"
)

// roundTrips returns how long a call takes in round trips of the relay: the least of some attempts, until one takes
// enough or less. A busy machine makes many of them longer.
func roundTrips(t *testing.T, delay time.Duration, enough float64, call func() error) float64 {
	t.Helper()
	least := math.Inf(1)
	for attempt := 0; attempt < 40 && least > enough; attempt++ {
		begin := time.Now()
		if err := call(); err != nil {
			t.Error(err)
			break
		}
		least = min(least, float64(time.Since(begin))/float64(delay))
	}
	return least
}

// What a call costs on a long line.
func TestRoundTrips(t *testing.T) {
	const delay = 150 * time.Millisecond
	s := sshdtest.Start(t)
	dir := t.TempDir()
	create(t, config(t, s, s.Port, dir)).Close()
	relay := sshdtest.NewRelay(t, s.Addr(), delay)
	be := create(t, config(t, s, relay.Port, dir))
	defer be.Close()
	content := backendtest.Content(1, 1<<20)
	pack, index, small := backendtest.FileOf(backend.Pack, content), backendtest.FileOf(backend.Index, content), backendtest.FileOf(backend.Snapshot, nil)
	for f, content := range map[backend.File][]byte{pack: content, index: content, small: nil} {
		if err := be.Save(t.Context(), f, content); err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	tests := map[string]struct {
		call func() error
		most float64
	}{
		"4 KiB of an open pack":  {func() error { return be.ReadAt(ctx, pack, make([]byte, 4096), 99) }, 1},
		"1 MiB of an open pack":  {func() error { return be.ReadAt(ctx, pack, make([]byte, 1<<20), 0) }, 1},
		"a small file":           {func() error { _, err := be.ReadAll(ctx, small, 1000); return err }, 2},
		"a file of 1 MiB":        {func() error { _, err := be.ReadAll(ctx, index, 1<<20); return err }, 3},
		"stat":                   {func() error { _, err := be.Stat(ctx, pack); return err }, 1},
		"save 1 MiB":             {func() error { return be.Save(ctx, pack, content) }, 6},
		"list all packs":         {func() error { return be.List(ctx, backend.Pack, func(backend.Info) error { return nil }) }, 100},
		"list the few snapshots": {func() error { return be.List(ctx, backend.Snapshot, func(backend.Info) error { return nil }) }, 4},
	}
	for name, test := range tests {
		// Most of a round trip is left for this machine. One after the other, a listing of all
		// packs would take 1024.
		enough := test.most + 0.9
		got := roundTrips(t, delay, enough, test.call)
		t.Logf("%s: %.1f round trips", name, got)
		if got > enough {
			t.Errorf("%s takes %.1f round trips, want at most %g", name, got, test.most)
		}
	}
}

// Another program may remove a pack while it is open here.
func TestPackRemovedElsewhere(t *testing.T) {
	dir := t.TempDir()
	be := create(t, plain(t, dir))
	defer be.Close()
	content := backendtest.Content(1, 5000)
	f := backendtest.FileOf(backend.Pack, content)
	if err := be.Save(t.Context(), f, content[:4000]); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 4000)
	if err := be.ReadAt(t.Context(), f, p, 0); err != nil {
		t.Fatal(err)
	}
	// The open one is short; the error must be that of the file which is there, or is not.
	name := filepath.Join(dir, f.Path())
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	wantErr(t, be.ReadAt(t.Context(), f, p, 1000), backend.ErrNotExist)
	if err := be.Save(t.Context(), f, content); err != nil {
		t.Fatal(err)
	}
	if err := be.ReadAt(t.Context(), f, p, 1000); err != nil {
		t.Error(err)
	}
}

func wantErr(t *testing.T, err, class error) {
	t.Helper()
	if err == nil || !backend.IsPermanent(err) || !errors.Is(err, class) {
		t.Errorf("error %v, want class %v", err, class)
	}
}

// More connections are made when there is work for them, and never more than allowed.
func TestConnectionsGrow(t *testing.T) {
	s := sshdtest.Start(t)
	relay := sshdtest.NewRelay(t, s.Addr(), 20*time.Millisecond)
	cfg := config(t, s, relay.Port, t.TempDir())
	cfg.Connections = 3
	be := create(t, cfg)
	defer be.Close()
	if n := relay.Made(); n != 1 {
		t.Errorf("%d connections for one call, want 1", n)
	}
	content := backendtest.Content(1, 4<<20)
	f := backendtest.FileOf(backend.Pack, content)
	if err := be.Save(t.Context(), f, content); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for relay.Made() < 3 && time.Since(begin) < 20*time.Second {
		readAll(t, be, f, 16, 16, 1<<20)
	}
	readAll(t, be, f, 16, 16, 1<<20)
	if n := relay.Made(); n != 3 {
		t.Errorf("%d connections for 16 calls at a time, want 3", n)
	}
}

// readAll reads n ranges, so many at a time.
func readAll(t testing.TB, be backend.Backend, f backend.File, n, parallel, length int) {
	ranges := make(chan int)
	var group sync.WaitGroup
	for range parallel {
		group.Go(func() {
			p := make([]byte, length)
			for range ranges {
				if err := be.ReadAt(t.Context(), f, p, rand.Int64N(64)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range n {
		ranges <- i
	}
	close(ranges)
	group.Wait()
}

// BenchmarkFar moves packs across a line of 50 ms: 4 MiB reads and 16 MiB saves, 8 at a time.
func BenchmarkFar(b *testing.B) {
	s := sshdtest.Start(b)
	for _, connections := range []int{1, 2, 5} {
		relay := sshdtest.NewRelay(b, s.Addr(), 50*time.Millisecond)
		cfg := config(b, s, relay.Port, b.TempDir())
		cfg.Connections, cfg.Log = connections, nil
		be := create(b, cfg)
		content := backendtest.Content(1, 16<<20)
		f := backendtest.FileOf(backend.Pack, content)
		if err := be.Save(b.Context(), f, content); err != nil {
			b.Fatal(err)
		}
		readAll(b, be, f, 64, 16, 4<<20) // until all connections are there
		b.Run(fmt.Sprintf("read/connections=%d", connections), func(b *testing.B) {
			b.SetBytes(4 << 20)
			readAll(b, be, f, b.N, 8, 4<<20)
		})
		b.Run(fmt.Sprintf("save/connections=%d", connections), func(b *testing.B) {
			b.SetBytes(16 << 20)
			var group sync.WaitGroup
			for w := range 8 {
				group.Go(func() {
					for i := w; i < b.N; i += 8 {
						if err := be.Save(b.Context(), backend.File{Kind: backend.Pack, Name: fmt.Sprintf("%064x", w)}, content); err != nil {
							b.Error(err)
						}
					}
				})
			}
			group.Wait()
		})
		be.Close()
	}
}
