package tree_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"vitrine/fs/tree"
	"vitrine/fs/tree/treetest"
	"vitrine/repo/snapshot"
)

// Walking repeated snapshots of one tree costs memory for the directories that are held, and
// nothing for files.
func TestMemoryOfAWalk(t *testing.T) {
	const snapshots, dirs, files = 50, 1000, 20
	src := treetest.New(t)
	var nodes []snapshot.Node
	for i := range dirs {
		var in []snapshot.Node
		for k := range files {
			in = append(in, src.File(fmt.Sprintf("file %d", k), fmt.Sprint(i)))
		}
		nodes = append(nodes, src.Dir(fmt.Sprintf("dir %d", i), in...))
	}
	root := src.Tree(nodes...)
	for i := range snapshots {
		src.AddSnapshot(day.Add(time.Duration(i)*time.Hour), root, nil)
	}
	tr := open(t, src, tree.Options{PathTemplates: []string{"%i"}})
	walk := func() (held []tree.NodeID) {
		count := 0
		var visit func(id tree.NodeID)
		visit = func(id tree.NodeID) {
			var below []tree.NodeID
			err := tr.List(t.Context(), id, 0, func(_ uint64, name string, a *tree.Attr) bool {
				if count++; a.Mode.IsDir() {
					below = append(below, a.ID)
				}
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range below {
				visit(id)
			}
			held = append(held, below...)
		}
		visit(tree.Root)
		if count < snapshots*dirs*files {
			t.Fatalf("%d entries seen", count)
		}
		return held
	}
	forget := func(held []tree.NodeID) {
		for _, id := range held {
			tr.Forget(id, 1)
		}
	}
	forget(walk()) // the caches are full after that
	before := heap()
	held := walk()
	after := heap()
	runtime.KeepAlive(held)
	each := (after - before - int64(cap(held))*8) / int64(len(held))
	t.Logf("%d directories held, %d bytes for each", len(held), each)
	if each > 100 {
		t.Errorf("%d bytes for each of %d directories", each, len(held))
	}
	forget(held)
	if left := heap() - before - int64(cap(held))*8; left > 1<<20 {
		t.Errorf("%d bytes stay when all is forgotten", left)
	}
	runtime.KeepAlive(held)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
