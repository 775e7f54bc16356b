package indexdb

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"vitrine/repo/blob"
)

// loadWorkers is how many index files are fetched at once, for they may be far away; each holds one file of about 2 MB. The
// repository decodes fewer at a time, to about 8 MB each.
func loadWorkers() int { return max(4, runtime.GOMAXPROCS(0)) }

// load reads the index files, each into a run of its own, in no particular order. left are those that are passed over.
func (c *core) load(ctx context.Context, files []blob.ID) (runs []*run, left []blob.ID, err error) {
	var (
		mu    sync.Mutex // guards runs, left and inRAM
		inRAM int        // entries of runs
		idle  = make(chan *runBuilder, loadWorkers())
	)
	for range cap(idle) {
		idle <- new(runBuilder)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(cap(idle))
	for _, id := range files {
		if groupCtx.Err() != nil {
			break
		}
		group.Go(func() error {
			b := <-idle
			defer func() { idle <- b }()
			b.reset(c.keys)
			err := c.src.LoadIndexFile(groupCtx, id, func(e blob.Entry) error {
				b.add(&e)
				return nil
			})
			if err != nil {
				if groupCtx.Err() == nil && c.passOver(id, err) {
					mu.Lock()
					left = append(left, id)
					mu.Unlock()
					return nil
				}
				return fmt.Errorf("load index file %s: %w", id.Short(), err)
			}
			r := b.finish(id)
			mu.Lock()
			runs = append(runs, r)
			var many []*run
			if inRAM += r.len(); c.spill.wants(inRAM) {
				runs, many = divide(runs)
				inRAM = 0
			}
			mu.Unlock()
			if len(many) == 0 {
				return nil
			}
			merged, err := c.spill.merge(&b.masker, many)
			if err != nil {
				return err
			}
			mu.Lock()
			runs = append(runs, merged...)
			mu.Unlock()
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	return runs, left, ctx.Err()
}

// divide returns the runs on disk and those in RAM.
func divide(runs []*run) (onDisk, inRAM []*run) {
	for _, r := range runs {
		if r.spilled != nil {
			onDisk = append(onDisk, r)
		} else {
			inRAM = append(inRAM, r)
		}
	}
	return onDisk, inRAM
}
