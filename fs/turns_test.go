package fs

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/cache/blobcache"
	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// Of those who come while all processors are taken the readers go first, in the order in which they
// came, and those who guess when none of them waits.
func TestTurns(t *testing.T) {
	for _, tc := range []struct {
		name        string
		most, spare int
	}{{"one processor", 1, 1}, {"two", 2, 1}, {"many", 16, 15}} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				turns := &turns{most: tc.most, spare: tc.spare}
				began := time.Now()
				var mu sync.Mutex // guards got
				got := map[string]time.Duration{}
				hold := func(name string, take, put func()) {
					go func() {
						take()
						mu.Lock()
						got[name] = time.Since(began)
						mu.Unlock()
						time.Sleep(time.Second)
						put()
					}()
					synctest.Wait()
				}
				for range tc.most - 1 {
					turns.takeFirst() // for good
				}
				hold("held", turns.takeFirst, turns.putFirst)
				hold("reader 1", turns.takeFirst, turns.putFirst)
				hold("guess 1", turns.take, turns.put)
				hold("reader 2", turns.takeFirst, turns.putFirst)
				hold("calm", turns.takeCalm, func() {})
				hold("guess 2", turns.take, turns.put)
				hold("reader 3", turns.takeFirst, turns.putFirst)
				time.Sleep(time.Minute)
				synctest.Wait()
				want := map[string]time.Duration{"held": 0, "reader 1": 1, "reader 2": 2, "reader 3": 3, "calm": 3, "guess 1": 4, "guess 2": 5}
				for name := range want {
					want[name] *= time.Second
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// A reader takes the processor of one who guesses.
func TestTurnsGuessHoldsNoReaderBack(t *testing.T) {
	turns := &turns{most: 2, spare: 1}
	turns.take()
	for range 2 {
		turns.takeFirst()
	}
	turns.putFirst()
	turns.putFirst()
	turns.put()
	if turns.first != 0 || turns.guesses != 0 {
		t.Errorf("%d and %d turns are left", turns.first, turns.guesses)
	}
}

// Who reads from a store that does not answer gives his turn back, and waits for another to decode.
func TestLease(t *testing.T) {
	for _, tc := range []struct {
		name    string
		far     bool
		reading time.Duration
		fails   bool
		other   time.Duration // when another reader gets the only turn
	}{
		{"near", false, time.Millisecond, false, 2 * time.Millisecond},
		{"hangs", false, time.Minute, false, leaseLimit},
		{"far", true, time.Minute, false, 0},
		{"fails", false, time.Millisecond, true, time.Millisecond},
		{"hangs and fails", false, time.Minute, true, leaseLimit},
		{"far and fails", true, time.Minute, true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				turns := &turns{most: 1, spare: 1}
				if tc.far {
					turns.sample(time.Second, 1<<20)
				}
				began := time.Now()
				l := turns.lease()
				var other time.Duration
				go func() {
					turns.takeFirst()
					other = time.Since(began)
					turns.putFirst()
				}()
				time.Sleep(tc.reading)
				if !tc.fails {
					l.renew()
					time.Sleep(time.Millisecond) // decoding
				}
				l.end()
				synctest.Wait()
				if other != tc.other {
					t.Errorf("another reader gets the turn after %v, want %v", other, tc.other)
				}
				if turns.first != 0 || len(turns.waiting) != 0 {
					t.Errorf("%d turns are not given back, %d wait", turns.first, len(turns.waiting))
				}
			})
		})
	}
}

// damagedSpans are chunks that do not decode, in a store that is away when it is asked for another copy.
type damagedSpans struct{ Source }

func (damagedSpans) ReadSpan(context.Context, *repo.Span, []byte) error { return nil }
func (damagedSpans) DecodeBlob(blob.Entry, []byte, []byte) ([]byte, error) {
	return nil, repo.ErrCorrupt
}
func (damagedSpans) ReadBlob(context.Context, blob.Handle, []byte) ([]byte, error) {
	time.Sleep(10 * time.Minute)
	return nil, repo.ErrCorrupt
}

// Who comes to wait for the store keeps no turn to decode.
func TestNoTurnIsHeldOverReads(t *testing.T) {
	t.Run("readers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &streamer{src: damagedSpans{}, spans: damagedSpans{}, spare: &turns{most: 2, spare: 1}}
			f := &flight{entries: make([]blob.Entry, 1)} // of no bytes
			for range 3 {
				go s.open(t.Context(), f, 0, nil, nil, nil)
			}
			synctest.Wait()
			began := time.Now()
			if s.spare.takeFirst(); time.Since(began) != 0 {
				t.Errorf("another reader waits for %v", time.Since(began))
			}
			s.spare.putFirst()
			time.Sleep(time.Hour)
			if s.spare.first != 0 || s.spare.guesses != 0 {
				t.Errorf("turns are lost: %d and %d", s.spare.first, s.spare.guesses)
			}
		})
	})
	t.Run("guesses", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			turns := &turns{most: 2, spare: 1}
			go turns.guess(func() { time.Sleep(10 * time.Minute) })
			synctest.Wait()
			began := time.Now()
			turns.guess(func() {})
			if waited := time.Since(began); waited > leaseLimit {
				t.Errorf("another guess waits for %v", waited)
			}
			time.Sleep(time.Hour)
			if turns.first != 0 || turns.guesses != 0 {
				t.Errorf("turns are lost: %d and %d", turns.first, turns.guesses)
			}
		})
	})
}

// What was waited for in vain is not asked for again in the same read, whose time is up. After any other error the
// chunk is read alone.
func TestAwayOnlyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			err  error
			asks bool
		}{
			{fmt.Errorf("read: %w", backend.Classed(backend.ErrAway, io.ErrUnexpectedEOF)), false},
			{io.ErrUnexpectedEOF, true},
			{repo.ErrCorrupt, true},
		} {
			src := failingSpans{err: tc.err}
			s := &streamer{src: src, spans: src, spare: &turns{most: 2, spare: 1}, chunks: blobcache.NewChunks(1 << 20), slots: make(chan struct{}, 1)}
			p := s.chunks.Reserve(blob.Handle{Type: blob.Data}, 1)
			f := &flight{entries: make([]blob.Entry, 1), promises: []*blobcache.Promise{p}}
			s.slots <- struct{}{}
			go s.bring(t.Context(), f)
			began := time.Now()
			_, err := s.chunks.Get(t.Context(), blob.Handle{Type: blob.Data}, 1, nil)
			if asked := time.Since(began) > 0; err == nil || asked != tc.asks {
				t.Errorf("%v: asked again: %v; %v", tc.err, asked, err)
			}
			s.chunks.Close()
		}
	})
}

// failingSpans cannot read spans, and takes its time to read a chunk.
type failingSpans struct {
	damagedSpans
	err error
}

func (f failingSpans) ReadSpan(context.Context, *repo.Span, []byte) error { return f.err }
