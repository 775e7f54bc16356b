package indexdb

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/cache/indexdb/indextest"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// halfSource has an index file that is not whole, and shorter, while half is set.
type halfSource struct {
	*indextest.Source
	id   blob.ID
	half atomic.Bool
}

func (s *halfSource) IndexFiles(ctx context.Context) ([]backend.Info, error) {
	infos, err := s.Source.IndexFiles(ctx)
	for i := range infos {
		if s.half.Load() && infos[i].Name == s.id.String() {
			infos[i].SizeBytes--
		}
	}
	return infos, err
}

var errHalf = errors.New("half of it")

func (s *halfSource) LoadIndexFile(ctx context.Context, id blob.ID, fn func(blob.Entry) error) error {
	if id == s.id && s.half.Load() {
		return errHalf
	}
	return s.Source.LoadIndexFile(ctx, id, fn)
}

// An index file that is passed over is left out, also of the generation that is built, until it is whole.
func TestPassOver(t *testing.T) {
	whole, other := indextest.Entries(1, 2000), indextest.Entries(2, 1000)
	rest := indextest.NewSource(whole)
	src := &halfSource{Source: indextest.NewSource(whole)}
	src.id = src.Add(other)
	src.half.Store(true)
	asked := 0
	options := Options{PassOver: func(id blob.ID, err error) bool {
		asked++
		if id != src.id || !errors.Is(err, errHalf) {
			t.Errorf("asked about %s, %v", id.Short(), err)
		}
		return true
	}}

	if _, err := OpenMemory(t.Context(), src, Options{}); !errors.Is(err, errHalf) {
		t.Errorf("nobody to ask: %v, want the error", err)
	}
	m := must(OpenMemory(t.Context(), src, options))
	defer m.Close()
	indextest.Check(t, m, rest)
	indextest.CheckAbsent(t, m, other)
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	for range 10 { // it is not read each time
		if err := m.Refresh(t.Context()); err != nil || asked != 1 {
			t.Errorf("refreshed: %v, asked %d times", err, asked)
		}
	}
	src.half.Store(false)
	if err := m.Refresh(t.Context()); err != nil || asked != 1 {
		t.Errorf("whole: %v, asked %d times", err, asked)
	}
	indextest.Check(t, m, src.Source)

	src.half.Store(true)
	dir := t.TempDir()
	options.Builder = Self
	d := must(open(t.Context(), dir, testSecret, src, options, alwaysBuild))
	waitBuilt(t, d)
	indextest.Check(t, d, rest)
	indextest.CheckAbsent(t, d, other)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	src.half.Store(false)
	d = must(open(t.Context(), dir, testSecret, src, options, alwaysBuild))
	indextest.Check(t, d, src.Source)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// What is passed over is looked at again after a while, also when it has kept its size.
func TestPassOverForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &halfSource{Source: indextest.NewSource(indextest.Entries(1, 10))}
		src.id = src.Add(indextest.Entries(2, 10))
		src.half.Store(true)
		asked := 0
		m := must(OpenMemory(t.Context(), src, Options{PassOver: func(blob.ID, error) bool { asked++; return true }}))
		defer m.Close()
		for _, step := range []struct {
			wait time.Duration
			want int
		}{{0, 1}, {passedFor - time.Second, 1}, {time.Second, 2}, {0, 2}, {passedFor, 3}} {
			time.Sleep(step.wait)
			if err := m.Refresh(t.Context()); err != nil || asked != step.want {
				t.Errorf("%v later: %v, asked %d times, want %d", step.wait, err, asked, step.want)
			}
		}
	})
}

// What PassOver does not take is the error of Open.
func TestNotPassedOver(t *testing.T) {
	src := &halfSource{Source: indextest.NewSource(indextest.Entries(1, 10))}
	src.id = src.Add(indextest.Entries(2, 10))
	src.half.Store(true)
	_, err := OpenMemory(t.Context(), src, Options{PassOver: func(blob.ID, error) bool { return false }})
	if !errors.Is(err, errHalf) {
		t.Errorf("%v, want the error", err)
	}
}
