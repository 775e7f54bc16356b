package repo

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/internal/indexfile"
)

// As many index files are decoded at a time as there are processors, however many are asked for; who has to wait can be
// told to stop.
func TestDecodeFewIndexFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := listingRepo(t)
		defer r.Close()
		id, err := r.SaveFile(t.Context(), backend.Index, indexfile.Append(nil, []indexfile.Pack{packOf(1, 1)}))
		if err != nil {
			t.Fatal(err)
		}
		const more = 3
		atOnce := min(runtime.GOMAXPROCS(0), runtime.NumCPU())
		var decoding, decoded atomic.Int64
		goOn, ended := make(chan struct{}), make(chan error)
		ctx, stop := context.WithCancel(t.Context())
		for range atOnce + more {
			go func() {
				ended <- r.LoadIndexFile(ctx, id, func(blob.Entry) error {
					decoding.Add(1)
					<-goOn
					decoding.Add(-1)
					decoded.Add(1)
					return nil
				})
			}()
		}
		synctest.Wait()
		if n := decoding.Load(); n != int64(atOnce) {
			close(goOn)
			for range atOnce + more {
				<-ended
			}
			t.Fatalf("%d index files are decoded at a time, want %d", n, atOnce)
		}
		goOn <- struct{}{}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := decoding.Load(); n != int64(atOnce) {
			t.Errorf("%d index files are decoded at a time after one has ended, want %d", n, atOnce)
		}
		stop()
		for range more - 1 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("who waits ends with %v, want %v", err, context.Canceled)
			}
		}
		close(goOn)
		for range atOnce {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if n := decoded.Load(); n != int64(atOnce)+1 {
			t.Errorf("%d were decoded, want %d", n, atOnce+1)
		}
	})
}
