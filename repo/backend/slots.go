package backend

import "context"

// Slots bound how many requests to a store run at a time: its capacity, a token in it for each.
type Slots chan struct{}

// Take waits for a free slot, or for the end of the context. Its caller calls release when the request is over.
func (s Slots) Take(ctx context.Context) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case s <- struct{}{}:
		return func() { <-s }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
