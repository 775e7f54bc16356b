package fs

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/fs/tree"
	"vitrine/fs/tree/treetest"
	"vitrine/repo/blob"
)

// layoutOf makes a file of chunks with the lengths; 0 stands for a hole.
func layoutOf(t *testing.T, lengths ...int) (*tree.Layout, []blob.ID) {
	t.Helper()
	src := treetest.New(t)
	var chunks []string
	for i, n := range lengths {
		if n == 0 {
			chunks = append(chunks, string(make([]byte, 512<<10)))
		} else {
			chunks = append(chunks, strings.Repeat(fmt.Sprint(i), n))
		}
	}
	f := src.File("f", chunks...)
	src.AddSnapshot(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), src.Tree(f), nil)
	n := bareNodes(t, src, nil)
	l, err := n.tree.Layout(t.Context(), tree.NodeID(find(t, n, "snapshots/2020-01-02T03:04:05Z/f").NodeId))
	if err != nil {
		t.Fatal(err)
	}
	return l, f.Content
}

func TestReadaheadPlans(t *testing.T) {
	const m = 1 << 20
	for _, tc := range []struct {
		name    string
		lengths []int
		reads   []int
		want    [][]int // chunks asked for after each read
	}{
		{"one look", []int{m, m, m}, []int{0}, [][]int{nil}},
		{"in order", []int{m, m, m, m, m, m, m}, []int{0, 1, 2, 3}, [][]int{nil, {2, 3, 4, 5}, {6}, nil}},
		{"the same chunk again", []int{m, m, m}, []int{0, 0, 0}, [][]int{nil, {1, 2}, nil}},
		{"at random", []int{m, m, m, m, m, m}, []int{3, 0, 5, 2}, [][]int{nil, nil, nil, nil}},
		{"jump, then in order", []int{m, m, m, m, m, m}, []int{0, 3, 4}, [][]int{nil, nil, {5}}},
		{"large chunks", []int{6 * m, 6 * m, 6 * m, 6 * m}, []int{0, 1}, [][]int{nil, {2, 3}}},
		{"holes", []int{m, m, 0, 0, m}, []int{0, 1}, [][]int{nil, {4}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, ids := layoutOf(t, tc.lengths...)
			number := map[blob.ID]int{}
			for i, id := range ids {
				number[id] = i
			}
			s := newSequential(nil)
			for k, i := range tc.reads {
				var got []int
				for _, id := range s.plan(7, l, i) {
					got = append(got, number[id])
				}
				if diff := cmp.Diff(tc.want[k], got); diff != "" {
					t.Errorf("after read %d, of chunk %d: %s", k, i, diff)
				}
			}
		})
	}
}

func TestReadaheadForgetsStreams(t *testing.T) {
	l, _ := layoutOf(t, 10, 20)
	s := newSequential(nil)
	for id := range tree.NodeID(10 * aheadStreams) {
		s.plan(id, l, 0)
	}
	if n := len(s.streams); n > aheadStreams {
		t.Errorf("%d streams are remembered", n)
	}
}

func TestReadaheadNeverBlocks(t *testing.T) {
	l, _ := layoutOf(t, 10, 20, 30, 40, 50, 60)
	gate := make(chan struct{})
	var mu sync.Mutex
	loaded := 0
	s := newSequential(func(ctx context.Context, _ blob.ID) {
		<-gate
		mu.Lock()
		defer mu.Unlock()
		loaded++
	})
	done := make(chan struct{})
	go func() { s.run(t.Context()); close(done) }()
	for id := range tree.NodeID(50) { // far more than the queue holds
		s.note(id, l, 0)
		s.note(id, l, 1)
	}
	close(gate)
	s.close()
	<-done
	if loaded == 0 {
		t.Error("nothing was loaded")
	}
}
