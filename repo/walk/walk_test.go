package walk_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
	"vitrine/repo/walk"
)

// id numbers trees.
func id(n int) blob.ID {
	var id blob.ID
	binary.BigEndian.PutUint64(id[:], uint64(n))
	return id
}

func number(id blob.ID) int { return int(binary.BigEndian.Uint64(id[:])) }

// forest maps trees to their subtrees.
type forest map[int][]int

func (f forest) load(_ context.Context, tree blob.ID) ([]snapshot.Node, error) {
	var nodes []snapshot.Node
	for i, sub := range f[number(tree)] {
		nodes = append(nodes, snapshot.Node{Name: fmt.Sprint(i), Type: snapshot.File},
			snapshot.Node{Name: fmt.Sprint(i), Type: snapshot.Dir, Subtree: new(id(sub))})
	}
	return nodes, nil
}

func ids(numbers ...int) []blob.ID {
	var list []blob.ID
	for _, n := range numbers {
		list = append(list, id(n))
	}
	return list
}

func TestOrder(t *testing.T) {
	type visit struct{ N, Tree, Parent int }
	tests := []struct {
		name   string
		forest forest
		roots  []int
		want   []visit
	}{
		{"nothing", forest{}, nil, nil},
		{"one", forest{}, []int{7}, []visit{{0, 7, -1}}},
		{"equal roots", forest{}, []int{7, 7, 8}, []visit{{0, 7, -1}, {1, 8, -3}}},
		{"levels", forest{1: {2, 3}, 2: {4, 5}, 3: {6}}, []int{1},
			[]visit{{0, 1, -1}, {1, 2, 0}, {2, 3, 0}, {3, 4, 1}, {4, 5, 1}, {5, 6, 2}}},
		{"shared", forest{1: {3, 4}, 2: {4, 3, 5}, 3: {5}, 4: {5, 5}}, []int{1, 2},
			[]visit{{0, 1, -1}, {1, 2, -2}, {2, 3, 0}, {3, 4, 0}, {4, 5, 1}}},
		{"a root below another", forest{1: {2}, 2: {3}}, []int{1, 2}, []visit{{0, 1, -1}, {1, 2, -2}, {2, 3, 1}}},
	}
	for _, test := range tests {
		for _, parallel := range []int{0, 1, 3, 100} {
			t.Run(fmt.Sprintf("%s %d", test.name, parallel), func(t *testing.T) {
				var got []visit
				err := walk.Trees(t.Context(), test.forest.load, ids(test.roots...), walk.Options{Parallel: parallel}, func(tree walk.Tree[[]snapshot.Node]) error {
					got = append(got, visit{tree.N, number(tree.ID), tree.Parent})
					if want := 2 * len(test.forest[number(tree.ID)]); len(tree.Loaded) != want || tree.Err != nil {
						t.Errorf("tree %d: %d nodes, %v, want %d", number(tree.ID), len(tree.Loaded), tree.Err, want)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			})
		}
	}
}

// TestSlowLoads lets loads end in any order: visits and the final error stay the same, and no
// more than Parallel loads are under way.
func TestSlowLoads(t *testing.T) {
	const trees, parallel = 500, 5
	f := forest{}
	rng := rand.New(rand.NewPCG(1, 2))
	for n := 1; n < trees; n++ {
		parent := rng.IntN(n)
		f[parent] = append(f[parent], n)
	}
	stop := errors.New("stop")
	var first []int
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			delays := rand.New(rand.NewPCG(seed, 0))
			var under atomic.Int32
			load := func(ctx context.Context, tree blob.ID) (int, []blob.ID, error) {
				if n := under.Add(1); n > parallel {
					t.Errorf("%d loads at a time", n)
				}
				defer under.Add(-1)
				mu.Lock()
				delay := time.Duration(delays.IntN(1000)) * time.Millisecond
				mu.Unlock()
				time.Sleep(delay)
				var err error
				if number(tree)%7 == 3 {
					err = fmt.Errorf("tree %d", number(tree))
				}
				return number(tree), ids(f[number(tree)]...), err
			}
			var got []int
			bad := 0
			err := walk.Each(t.Context(), ids(0), walk.Options{Parallel: parallel}, load, func(tree walk.Tree[int]) error {
				got = append(got, tree.Loaded)
				if tree.Err != nil {
					bad++
				}
				if bad == 20 {
					return stop
				}
				return nil
			})
			if err != stop {
				t.Errorf("error %v", err)
			}
			if n := under.Load(); n != 0 {
				t.Errorf("%d loads are left", n)
			}
			if first == nil {
				first = got
			}
			if diff := cmp.Diff(first, got); diff != "" {
				t.Errorf("another order:\n%s", diff)
			}
		})
	}
	if len(first) < 50 {
		t.Fatalf("only %d visits", len(first))
	}
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		load := func(ctx context.Context, tree blob.ID) (int, []blob.ID, error) {
			if number(tree) == 3 {
				<-ctx.Done()
				return 0, nil, ctx.Err()
			}
			return 0, ids(number(tree) + 1), nil
		}
		go func() {
			time.Sleep(time.Minute)
			cancel()
		}()
		visits := 0
		err := walk.Each(ctx, ids(0), walk.Options{}, load, func(tree walk.Tree[int]) error {
			visits++
			return nil
		})
		if !errors.Is(err, context.Canceled) || visits != 3 {
			t.Errorf("error %v after %d visits, want 3", err, visits)
		}
	})
}

// TestWideAndDeep: what is held does not grow with the trees but for their IDs.
func TestWideAndDeep(t *testing.T) {
	const width, depth, payload = 20_000, 20_000, 64 << 10
	var held, most atomic.Int64
	load := func(ctx context.Context, tree blob.ID) (*[]byte, []blob.ID, error) {
		n := number(tree)
		var subs []blob.ID
		if n == 0 {
			for i := range width {
				subs = append(subs, id(1+i))
			}
		} else if n >= width && n < width+depth {
			subs = ids(n + 1)
		}
		p := make([]byte, payload)
		for now := held.Add(1); ; {
			if m := most.Load(); now <= m || most.CompareAndSwap(m, now) {
				break
			}
		}
		return &p, subs, nil
	}
	visits := 0
	err := walk.Each(t.Context(), ids(0), walk.Options{Parallel: 4}, load, func(tree walk.Tree[*[]byte]) error {
		visits++
		held.Add(-1)
		return nil
	})
	if err != nil || visits != 1+width+depth {
		t.Errorf("%d visits, %v", visits, err)
	}
	if m := most.Load(); m > 5 {
		t.Errorf("%d trees were held at a time, want 4 and the one that is visited", m)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 64<<20 {
		t.Errorf("%d MiB are left in use", m.HeapAlloc>>20)
	}
}
