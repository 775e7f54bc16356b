package walk_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
	"vitrine/repo/walk"
)

// TestAhead walks in the order of the names, meets shared trees as often as they are shown, and loads no more than
// it has to.
func TestAhead(t *testing.T) {
	f := forest{1: {2, 3, 4}, 2: {5}, 3: {5, 6}}
	var loads atomic.Int64
	load := walk.Load(func(ctx context.Context, tree blob.ID) ([]snapshot.Node, error) {
		loads.Add(1)
		if number(tree) == 6 {
			return nil, errors.New("broken")
		}
		return f.load(ctx, tree)
	})
	var got []string
	stop := errors.New("stop")
	var limit int
	var visit func(dir string, nodes []snapshot.Node) error
	visit = func(dir string, nodes []snapshot.Node) error {
		enter := func(n *snapshot.Node) bool { return dir+n.Name != "/2" }
		return walk.Ahead(t.Context(), load, nodes, enter, func(n *snapshot.Node, tree *walk.Coming) error {
			if len(got) == limit {
				return stop
			}
			name := dir + n.Name
			if tree == nil {
				got = append(got, fmt.Sprint(name, " ", n.Type))
				return nil
			}
			nodes, err := tree.Wait()
			got = append(got, fmt.Sprint(name, "/ ", err))
			return visit(name+"/", nodes)
		})
	}
	nodes, err := load.Start(t.Context(), new(id(1))).Wait()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"/0 file", "/0/ <nil>", "/0/0 file", "/0/0/ <nil>", "/1 file", "/1/ <nil>", "/1/0 file", "/1/0/ <nil>", "/1/1 file",
		"/1/1/ broken", "/2 file", "/2 dir",
	}
	limit = len(want)
	if err := visit("/", nodes); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if loads.Load() != 6 {
		t.Errorf("%d trees were loaded, want 6", loads.Load())
	}
	got, limit = nil, 3
	if err := visit("/", nodes); !errors.Is(err, stop) {
		t.Errorf("error %v", err)
	}
	if _, err := load.Start(t.Context(), nil).Wait(); !errors.Is(err, walk.ErrNoTree) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := walk.Ahead(ctx, load, nodes, func(*snapshot.Node) bool { return true }, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
