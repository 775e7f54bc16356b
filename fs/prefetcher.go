package fs

import (
	"context"

	"vitrine/fs/tree"
)

// prefetcher guesses what will be read next and gets it into the cache.
type prefetcher interface {
	// note tells that chunk i of a file is being read. It never blocks.
	note(id tree.NodeID, l *tree.Layout, i int)
	// expect tells that a file of several chunks will be read from its beginning. It never
	// blocks.
	expect(id tree.NodeID, l *tree.Layout)
	// run does the work until close; what is under way when ctx ends is given up.
	run(ctx context.Context)
	// close makes run return. Neither note nor expect may follow.
	close()
}
