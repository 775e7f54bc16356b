package fs

import (
	"context"
	"sync"

	"vitrine/fs/tree"
	"vitrine/repo/blob"
)

// readahead guesses what will be read next and gets it into the cache.
type readahead interface {
	// note tells that chunk i of a file is being read. It never blocks.
	note(id tree.NodeID, l *tree.Layout, i int)
	// run does the work until close; what is under way when ctx ends is given up.
	run(ctx context.Context)
	// close makes run return. No note may follow.
	close()
}

const (
	aheadWorkers = 2       // loads at the same time: decoding takes a core each
	aheadChunks  = 4       // how far ahead of the reader
	aheadBytes   = 8 << 20 // the same in bytes
	aheadStreams = 256     // files read at the same time that are told apart
)

// sequential loads the next chunks of files that are read in order.
type sequential struct {
	load func(context.Context, blob.ID) // into the cache; errors are the reader's to see
	jobs chan blob.ID                   // closed by close

	mu      sync.Mutex // guards the rest
	streams map[tree.NodeID]stream
}

// stream is the state of one file.
type stream struct {
	last  int // chunk that was read last
	ahead int // chunks below this one were asked for
}

func newSequential(load func(context.Context, blob.ID)) *sequential {
	return &sequential{
		load: load, jobs: make(chan blob.ID, aheadWorkers*aheadChunks),
		streams: make(map[tree.NodeID]stream),
	}
}

func (s *sequential) run(ctx context.Context) {
	var wg sync.WaitGroup
	for range aheadWorkers {
		wg.Go(func() {
			for id := range s.jobs {
				s.load(ctx, id)
			}
		})
	}
	wg.Wait()
}

func (s *sequential) close() { close(s.jobs) }

func (s *sequential) note(id tree.NodeID, l *tree.Layout, i int) {
	if l.Len() == 1 {
		return
	}
	for _, next := range s.plan(id, l, i) {
		select {
		case s.jobs <- next:
		default:
			return // the workers are busy: the reader will ask itself
		}
	}
}

// plan returns the chunks to load now.
func (s *sequential) plan(id tree.NodeID, l *tree.Layout, i int) []blob.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.streams[id]
	inOrder := ok && (i == st.last || i == st.last+1)
	if !ok && len(s.streams) >= aheadStreams {
		clear(s.streams)
	}
	if !inOrder {
		st = stream{ahead: i + 1}
	}
	st.last = i
	var next []blob.ID
	if inOrder { // one read alone promises nothing: many programs look at the head only
		limit := l.Chunk(i).End + aheadBytes
		for k := max(st.ahead, i+1); k < l.Len() && k <= i+aheadChunks; k++ {
			c := l.Chunk(k)
			if c.Start >= limit {
				break
			}
			st.ahead = k + 1
			if !c.Hole && !c.Lost {
				next = append(next, c.ID)
			}
		}
	}
	s.streams[id] = st
	return next
}
