// Command indexgen adds fabricated index entries to a repository, to see how vitrine and restic bear
// a large index. It writes index files only: the packs they name do not exist, so the
// repository is good for tests of the index and for nothing else, and check will complain.
//
//	indexgen -repo DIR -entries 4000000        with the password in RESTIC_PASSWORD
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/local"
	"vitrine/repo/blob"
)

// treeShare is the part of blobs that are trees: one in so many.
const treeShare = 20

// entriesPerFile is what a writer puts into an index file before it starts the next.
const entriesPerFile = 50_000

type options struct {
	repo         string
	password     string
	entries      int
	blobsPerPack int
	seed         uint64
}

func main() {
	var o options
	flag.StringVar(&o.repo, "repo", "", "`directory` of an existing repository; it is unusable for backups afterwards")
	flag.IntVar(&o.entries, "entries", 4_000_000, "`number` of fabricated index entries")
	flag.IntVar(&o.blobsPerPack, "blobs-per-pack", 200, "blobs in each pack that does not exist")
	flag.Uint64Var(&o.seed, "seed", 1, "another seed makes other entries")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "indexgen adds index files to a repository whose password is in RESTIC_PASSWORD.\n"+
			"The packs named there do not exist: use a repository that was made for this test.")
		flag.PrintDefaults()
	}
	flag.Parse()
	o.password = os.Getenv("RESTIC_PASSWORD")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	began := time.Now()
	files, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "indexgen:", err)
		os.Exit(1)
	}
	fmt.Printf("%d entries in %d index files, %.1f s\n", o.entries, files, time.Since(began).Seconds())
}

// run returns how many index files it stored.
func run(ctx context.Context, o options) (files int, err error) {
	if o.repo == "" || o.entries < 0 || o.blobsPerPack < 1 {
		return 0, errors.New("name a repository with -repo; see -help")
	}
	be, err := local.Open(o.repo)
	if err != nil {
		return 0, err
	}
	r, err := repo.Open(ctx, be, repo.Options{Password: []byte(o.password)})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for left := o.entries; left > 0; files++ {
		n := min(left, entriesPerFile)
		left -= n
		number := uint64(files)
		group.Go(func() error {
			plain := indexFile(newGenerator(o.seed, number), n, o.blobsPerPack, r.Config().Version)
			_, err := r.SaveFile(ctx, backend.Index, plain)
			return err
		})
	}
	return files, group.Wait()
}

// generator makes ids and lengths, the same for the same seed and file.
type generator struct{ *rand.ChaCha8 }

func newGenerator(seed, file uint64) generator {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	binary.LittleEndian.PutUint64(key[8:], file)
	return generator{rand.NewChaCha8(key)}
}

func (g generator) id() (id blob.ID) {
	g.Read(id[:]) // never fails
	return id
}

// indexFile returns the JSON of an index file of n blobs.
func indexFile(g generator, n, blobsPerPack int, version uint) []byte {
	p := make([]byte, 0, 200*n)
	p = append(p, `{"packs":[`...)
	for pack := 0; n > 0; pack++ {
		if pack > 0 {
			p = append(p, ',')
		}
		blobs := min(n, blobsPerPack)
		n -= blobs
		p = fmt.Appendf(p, `{"id":"%v","blobs":[`, g.id())
		t := blob.Data // a pack holds one type
		if pack%treeShare == 0 {
			t = blob.Tree
		}
		offset := uint64(0)
		for i := range blobs {
			if i > 0 {
				p = append(p, ',')
			}
			length := blob.SealOverheadBytes + 100 + g.Uint64()%60_000
			p = append(p, `{"id":"`...)
			p = append(p, g.id().String()...)
			p = append(p, `","type":"`...)
			p = append(p, t.String()...)
			p = append(p, `","offset":`...)
			p = strconv.AppendUint(p, offset, 10)
			p = append(p, `,"length":`...)
			p = strconv.AppendUint(p, length, 10)
			if version >= 2 {
				p = append(p, `,"uncompressed_length":`...)
				p = strconv.AppendUint(p, 3*length, 10)
			}
			p = append(p, '}')
			offset += length
		}
		p = append(p, `]}`...)
	}
	return append(p, `]}`...)
}
