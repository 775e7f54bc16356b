package stats_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
	"vitrine/repo/stats"
)

// store holds trees, and places of blobs.
type store struct {
	trees map[blob.ID][]snapshot.Node
	blobs map[blob.Handle]blob.Location
}

func (s *store) LoadTree(_ context.Context, id blob.ID) ([]snapshot.Node, error) {
	nodes, ok := s.trees[id]
	if !ok {
		return nil, fmt.Errorf("tree %s: %w", id.Short(), repo.ErrBlobMissing)
	}
	return nodes, nil
}

func (s *store) LookupBlob(h blob.Handle) (blob.Location, bool, error) {
	loc, ok := s.blobs[h]
	return loc, ok, nil
}

func newStore() *store {
	return &store{trees: map[blob.ID][]snapshot.Node{}, blobs: map[blob.Handle]blob.Location{}}
}

// tree stores a tree; half of them are compressed.
func (s *store) tree(nodes ...snapshot.Node) blob.ID {
	slices.SortFunc(nodes, func(a, b snapshot.Node) int { return strings.Compare(a.Name, b.Name) })
	var text []byte
	for i := range nodes {
		text = nodes[i].AppendJSON(text)
	}
	id := blob.Hash(text)
	s.trees[id] = nodes
	s.put(blob.Handle{Type: blob.Tree, ID: id}, uint32(len(text)))
	return id
}

func (s *store) put(h blob.Handle, size uint32) {
	loc := blob.Location{LengthBytes: size + blob.SealOverheadBytes}
	if h.ID[0]%2 == 0 {
		loc.PlainBytes, loc.LengthBytes = size+1, size/2+blob.SealOverheadBytes
	}
	s.blobs[h] = loc
}

// naive counts as the definition says: by going through each snapshot, place by place.
func (s *store) naive(mode stats.Mode, list []*snapshot.Snapshot) stats.Result {
	res := stats.Result{Snapshots: len(list)}
	contents := map[string]bool{}
	paths := map[string]map[blob.ID]bool{}
	raw := map[blob.Handle]bool{}
	for _, sn := range list {
		links := map[string]bool{}
		var visit func(at string, id blob.ID)
		visit = func(at string, id blob.ID) {
			raw[blob.Handle{Type: blob.Tree, ID: id}] = true
			for _, n := range s.trees[id] {
				name := path.Join(at, n.Name)
				link := fmt.Sprint(n.DeviceID, n.Inode)
				isNew := !contents[fmt.Sprint(n.Content)]
				contents[fmt.Sprint(n.Content)] = true
				switch mode {
				case stats.RestoreSize:
					res.Files++
					if n.Links <= 1 || !links[link] {
						res.Bytes += n.Size
					}
					links[link] = true
				case stats.FilesByContents:
					if isNew {
						res.Files++
						res.Bytes += n.Size
					}
				case stats.BlobsPerFile:
					for _, id := range n.Content {
						if !isNew {
							break
						}
						if paths[name] == nil {
							paths[name] = map[blob.ID]bool{}
							res.Files++
						}
						if !paths[name][id] {
							res.Blobs++
							loc := s.blobs[blob.Handle{Type: blob.Data, ID: id}]
							res.Bytes += uint64(loc.Size())
						}
						paths[name][id] = true
					}
				}
				for _, id := range n.Content {
					raw[blob.Handle{Type: blob.Data, ID: id}] = true
				}
				if n.Subtree != nil {
					visit(name, *n.Subtree)
				}
			}
		}
		visit("/", *sn.Tree)
	}
	if mode == stats.RawData {
		for h := range raw {
			loc := s.blobs[h]
			plain := uint64(loc.Size()) + 32
			res.Blobs++
			res.Bytes += uint64(loc.LengthBytes)
			res.PlainBytes += plain
			if loc.PlainBytes > 0 {
				res.CompressedBytes += uint64(loc.LengthBytes)
				res.CompressedPlainBytes += plain
			}
		}
	}
	return res
}

// random makes snapshots with shared trees, hard links and equal contents.
func random(rng *rand.Rand) (*store, []*snapshot.Snapshot) {
	s := newStore()
	var data []blob.ID
	for i := range 20 {
		id := blob.Hash(fmt.Append(nil, "data", i, rng.Uint64()))
		s.put(blob.Handle{Type: blob.Data, ID: id}, uint32(rng.IntN(1000)))
		data = append(data, id)
	}
	pool := []blob.ID{s.tree()}
	for range 25 {
		var nodes []snapshot.Node
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			n := snapshot.Node{Name: name}
			switch rng.IntN(5) {
			case 0, 1:
				n.Type, n.Content = snapshot.File, []blob.ID{}
				for range rng.IntN(4) {
					id := data[rng.IntN(len(data))]
					n.Content = append(n.Content, id)
					loc := s.blobs[blob.Handle{Type: blob.Data, ID: id}]
					n.Size += uint64(loc.Size())
				}
				n.Links = uint64(1 + rng.IntN(2))
				if n.Links > 1 { // names of one file are alike
					n.Inode, n.DeviceID = 1+uint64(rng.IntN(6)), uint64(rng.IntN(2))
					id := data[n.Inode+7*n.DeviceID]
					loc := s.blobs[blob.Handle{Type: blob.Data, ID: id}]
					n.Content, n.Size = []blob.ID{id}, uint64(loc.Size())
				}
			case 2, 3:
				n.Type, n.Subtree = snapshot.Dir, &pool[rng.IntN(len(pool))]
			default:
				n.Type, n.Links = snapshot.Symlink, 1
			}
			nodes = append(nodes, n)
		}
		pool = append(pool, s.tree(nodes...))
	}
	var list []*snapshot.Snapshot
	for range 3 {
		root := pool[len(pool)-1-rng.IntN(8)]
		list = append(list, &snapshot.Snapshot{Tree: &root})
	}
	return s, list
}

func TestCount(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 150 {
		s, list := random(rng)
		for mode := range stats.Mode(len(stats.Modes)) {
			want := s.naive(mode, list)
			var told int64
			got, err := stats.Count(t.Context(), s, mode, list, func(n int64) { told = n })
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%v: -want +got:\n%s", mode, diff)
			}
			if told == 0 || told > int64(len(s.trees)) {
				t.Fatalf("%v: %d of %d trees were read", mode, told, len(s.trees))
			}
		}
	}
	for mode := range stats.Mode(len(stats.Modes)) {
		if got, err := stats.Count(t.Context(), newStore(), mode, nil, nil); err != nil || got != (stats.Result{}) {
			t.Errorf("%v of nothing: %+v, %v", mode, got, err)
		}
	}
}

// TestLost: what is lost is an error that says of which snapshot, in every mode that needs it.
func TestLost(t *testing.T) {
	nowhere := blob.Hash([]byte("nowhere"))
	for _, test := range []struct {
		node  snapshot.Node
		modes []stats.Mode // that fail
	}{
		{snapshot.Node{Name: "x", Type: snapshot.File, Content: []blob.ID{nowhere}}, []stats.Mode{stats.BlobsPerFile, stats.RawData}},
		{snapshot.Node{Name: "x", Type: snapshot.Dir, Subtree: &nowhere},
			[]stats.Mode{stats.RestoreSize, stats.FilesByContents, stats.BlobsPerFile, stats.RawData}},
	} {
		s := newStore()
		good, inner := s.tree(), s.tree(test.node)
		bad := s.tree(snapshot.Node{Name: "d", Type: snapshot.Dir, Subtree: &inner})
		list := []*snapshot.Snapshot{{Tree: &good, ID: blob.Hash([]byte("1"))}, {Tree: &bad, ID: blob.Hash([]byte("2"))}}
		for mode := range stats.Mode(len(stats.Modes)) {
			_, err := stats.Count(t.Context(), s, mode, list, nil)
			if !slices.Contains(test.modes, mode) {
				if err != nil {
					t.Errorf("%v: %v", mode, err)
				}
				continue
			}
			if !errors.Is(err, repo.ErrBlobMissing) || !strings.Contains(err.Error(), "snapshot "+list[1].ID.Short()) {
				t.Errorf("%v: error %v", mode, err)
			}
		}
	}
}

func TestRatios(t *testing.T) {
	for _, test := range []struct {
		res                      stats.Result
		ratio, progress, savings float64
	}{
		{stats.Result{}, 0, 0, 0},
		{stats.Result{Bytes: 100, PlainBytes: 100}, 0, 0, 0},
		{stats.Result{Bytes: 100, PlainBytes: 200, CompressedBytes: 50, CompressedPlainBytes: 150}, 3, 75, 50},
	} {
		if r, p, s := test.res.Ratio(), test.res.Progress(), test.res.SpaceSaving(); r != test.ratio || p != test.progress || s != test.savings {
			t.Errorf("%+v: %v, %v, %v", test.res, r, p, s)
		}
	}
	for mode, word := range stats.Modes {
		if got, err := stats.ParseMode(word); err != nil || int(got) != mode || got.String() != word {
			t.Errorf("%s: %v, %v", word, got, err)
		}
	}
	if _, err := stats.ParseMode("size"); err == nil {
		t.Error("an unknown mode was accepted")
	}
}
