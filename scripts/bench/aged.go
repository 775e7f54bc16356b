package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"vitrine/scripts/internal/forge"
)

// What an aged repository consists of: generations of backups, each with eight index files and as many files. A file has one
// blob of 85 kB on average, and one blob of twenty is a tree.
const (
	generationEntries = 400_000
	agedIndexEntries  = 50_000
	agedPackBytes     = 16 << 20 // no pack is smaller: restic 0.14 would write it again for that alone
	blobLeastBytes    = 20_000
	blobMostBytes     = 150_000
	listedBytes       = 41 // of a blob in the header of its pack, which restic counts too
	filesPerLeaf      = 19
	leavesPerDir      = 100
	agedSnapshots     = 20
)

// ager fabricates a repository as years of backups with forget leave it: three quarters of the blobs are needed by
// snapshots, and of the packs of data
//
//	60 %     are needed as a whole
//	20 %     have a quarter that is not needed
//	20 %     are not needed at all
//	1 of 1900  is needed to a fifth, so that there is something to repack
//
// Trees and whatever is to be repacked are real. The other packs have a hole where the blobs should be, which
// keeps 300 GB in 300 MB: neither program reads them to prune or to check.
//
// A process of its own does it, for the same reason as with the ballast.
type ager struct {
	Repo    string
	Key     forge.Key
	Entries int   // that the index is to have, about; then those that it has
	Unused  int64 // bytes that nobody needs in the packs that have a quarter of them: these may stay

	mu   sync.Mutex // guards the fields below
	made int
}

// agerArgument makes this program one that ages a repository: it reads an ager and writes what became of it.
const agerArgument = "age-repository"

// newAged fills an empty repository of version 2.
func newAged(ctx context.Context, repo string, key forge.Key, entries int) (*ager, error) {
	a := &ager{Repo: repo, Key: key, Entries: entries}
	return a, elsewhere(ctx, agerArgument, a)
}

// age does the work.
func (a *ager) age() error {
	entries := a.Entries
	roots := make([]forge.Blob, max(1, entries/generationEntries))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range roots {
		group.Go(func() (err error) {
			g := &generation{ager: a, number: i, random: rand.New(rand.NewPCG(uint64(i), 1))}
			roots[i], err = g.make(min(entries, generationEntries))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := a.snapshots(roots); err != nil {
		return err
	}
	a.Entries = a.made
	return nil
}

// generation is a part of the backups.
type generation struct {
	*ager
	number int
	random *rand.Rand
	packer *forge.Packer
	packs  int // of data
	unused int64

	// Trees of directories that are needed, and of those that are not; and the files of those that come next.
	leaves, files [2][]forge.Blob
}

const (
	needed = iota
	needless
)

// make stores packs and index files and returns the root directory, which is needed.
func (g *generation) make(entries int) (root forge.Blob, err error) {
	if g.packer, err = forge.NewPacker(g.Repo, g.Key); err != nil {
		return root, err
	}
	made, listed := 0, 0
	for left := entries * filesPerLeaf / (filesPerLeaf + 1); left > 0; {
		n, err := g.pack()
		if err != nil {
			return root, err
		}
		made, left = made+n, left-n
		if made-listed >= agedIndexEntries || left <= 0 {
			listed = made
			if err := g.packer.Index(); err != nil {
				return root, err
			}
		}
	}
	g.leaf(needed)
	g.leaf(needless)
	upper := upperDirectories(g.leaves[needed])
	trees := [][]forge.Blob{append(upper, g.leaves[needed]...), g.leaves[needless]}
	if g.number == 0 {
		trees = [][]forge.Blob{slices.Concat(trees...)} // is repacked
	}
	for _, pack := range trees {
		if err := g.packer.Pack(true, pack); err != nil {
			return root, err
		}
		made += len(pack)
	}
	g.mu.Lock()
	g.ager.made += made
	g.Unused += g.unused
	g.mu.Unlock()
	return upper[len(upper)-1], g.packer.Index()
}

// pack stores a pack of data and returns how many blobs it has.
func (g *generation) pack() (int, error) {
	part, hollow := 1.0, true
	switch no := g.packs; {
	case no%1900 == 0:
		part, hollow = 0.2, false
	case no%5 == 1:
		part = 0.75
	case no%5 == 2:
		part = 0
	}
	content := noise(fmt.Sprint("pack ", g.number, g.packs))
	g.packs++
	var blobs []forge.Blob
	for sum := 0; sum < agedPackBytes; {
		b := forge.Blob{SealedBytes: blobLeastBytes + g.random.IntN(blobMostBytes-blobLeastBytes)}
		sum += b.SealedBytes
		if hollow {
			b.PlainBytes = 2 * b.SealedBytes
			content.Read(b.ID[:]) // never fails
		} else {
			plain := make([]byte, b.SealedBytes)
			content.Read(plain)
			b = forge.NewBlob(plain)
		}
		blobs = append(blobs, b)
		fate := needed
		if g.random.Float64() >= part {
			fate = needless
			if hollow && part > 0 {
				g.unused += int64(b.SealedBytes + listedBytes)
			}
		}
		b.Plain = nil
		if g.files[fate] = append(g.files[fate], b); len(g.files[fate]) == filesPerLeaf {
			g.leaf(fate)
		}
	}
	if hollow {
		return len(blobs), g.packer.HollowPack(blobs)
	}
	return len(blobs), g.packer.Pack(false, blobs)
}

// leaf makes a directory of the files that wait for it.
func (g *generation) leaf(fate int) {
	g.leaves[fate] = append(g.leaves[fate], directory(g.files[fate], "file"))
	g.files[fate] = g.files[fate][:0]
}

// upperDirectories returns the directories of leaves, and the root last.
func upperDirectories(leaves []forge.Blob) []forge.Blob {
	var dirs []forge.Blob
	for some := range slices.Chunk(leaves, leavesPerDir) {
		dirs = append(dirs, directory(some, "dir"))
	}
	return append(dirs, directory(dirs, "dir"))
}

// directory makes the tree of a directory of files of one blob each, or of the directories whose trees these are.
func directory(of []forge.Blob, kind string) forge.Blob {
	p := []byte(`{"nodes":[`)
	for i, b := range of {
		if i > 0 {
			p = append(p, ',')
		}
		mode, content := 0o644, fmt.Sprintf(`"size":%d,"links":1,"content":["%x"]`, b.PlainBytes, b.ID)
		if kind == "dir" {
			mode, content = 1<<31|0o755, fmt.Sprintf(`"content":null,"subtree":"%x"`, b.ID)
		}
		at := time.Date(2023, 1, 1, 0, 0, 0, int(b.ID[0])<<20, time.UTC).Add(time.Duration(b.ID[1]) * time.Hour).Format(time.RFC3339Nano)
		p = fmt.Appendf(p, `{"name":"%s-%06d","type":"%s","mode":%d,"mtime":"%s","atime":"%s","ctime":"%s","uid":1000,"gid":1000,"user":"user","group":"user","inode":%d,"device_id":64769,%s}`,
			kind, i, kind, mode, at, at, at, uint32(b.ID[2])<<16|uint32(b.ID[3]), content)
	}
	return forge.NewBlob(append(p, "]}\n"...))
}

// snapshots stores the snapshots: each shows what those before it show, and some more.
func (a *ager) snapshots(generations []forge.Blob) error {
	packer, err := forge.NewPacker(a.Repo, a.Key)
	if err != nil {
		return err
	}
	var trees []forge.Blob
	for i := range agedSnapshots {
		tree := directory(generations[:max(1, (i+1)*len(generations)/agedSnapshots)], "dir")
		if len(trees) == 0 || trees[len(trees)-1].ID != tree.ID {
			trees = append(trees, tree)
		}
		at := time.Date(2024, 1, 1+i, 0, 0, 0, 0, time.UTC).Format(time.RFC3339Nano)
		plain := fmt.Appendf(nil, `{"time":"%s","tree":"%x","paths":["/aged"],"hostname":"bench","username":"user","uid":1000,"gid":1000}`, at, tree.ID)
		if err := packer.File("snapshots", plain); err != nil {
			return err
		}
	}
	a.made += len(trees)
	if err := packer.Pack(true, trees); err != nil {
		return err
	}
	return packer.Index()
}
