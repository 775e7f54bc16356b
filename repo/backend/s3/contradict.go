package s3

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"vitrine/repo/backend"
)

// A cluster may deny a pack that it has. MinIO does so while one of its servers is dead: another one, that takes a third
// for dead as well, finds the object on one drive and not on its own, and says NoSuchKey instead of that it cannot know.
// Until the servers see each other again, which takes half a minute at most, they list the pack and deny it.
const (
	// contradictedFor is how long a pack may be listed and denied before it counts as gone.
	contradictedFor = time.Minute

	// maxContradicted is how many packs are waited for in vain before any other one counts as gone at once.
	maxContradicted = 8
)

// contradictions are the packs that the server lists and denies.
type contradictions struct {
	now func() time.Time

	mu    sync.Mutex           // guards the rest
	since map[string]time.Time // by name; those that were waited for in vain stay
	gone  int                  // how many of since were
}

// passes notes a contradiction and tells whether it may still pass.
func (c *contradictions) passes(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	since, known := c.since[name]
	switch {
	case c.gone >= maxContradicted:
		return false
	case !known:
		c.since[name] = c.now()
		return true
	case since.IsZero():
		return false
	case c.now().Sub(since) < contradictedFor:
		return true
	}
	c.since[name] = time.Time{}
	c.gone++
	return false
}

// settle notes that a pack was read.
func (c *contradictions) settle(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if since, known := c.since[name]; known {
		if since.IsZero() {
			c.gone--
		}
		delete(c.since, name)
	}
}

var errContradiction = &classified{backend.ErrFails, "the server lists it and says that it is not there", nil}

// believe returns what the answer to a GET comes to. That a pack is not there is true when the server does not list it
// either. Other files come and go, so that a listing tells nothing of them.
func (b *Backend) believe(ctx context.Context, f backend.File, err error) error {
	if f.Kind != backend.Pack {
		return err
	}
	if err == nil {
		b.contradictions.settle(f.Name)
		return nil
	}
	if minio.ToErrorResponse(err).Code != minio.NoSuchKey || doubtful(minio.ToErrorResponse(err)) {
		return err
	}
	listed, listErr := b.lists(ctx, f)
	switch {
	case listErr != nil && !backend.IsPermanent(b.explain(listErr)):
		return listErr
	case listErr != nil, !listed, !b.contradictions.passes(f.Name):
		return err
	}
	// The next try takes a connection that a balancer may give to another server.
	(&http.Client{Transport: b.cfg.Transport}).CloseIdleConnections()
	return errContradiction
}

// lists tells whether the server lists a file.
func (b *Backend) lists(ctx context.Context, f backend.File) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	noOwner := false
	for object := range b.client.ListObjectsIter(ctx, b.cfg.Bucket, minio.ListObjectsOptions{
		Prefix: b.key(f), Recursive: true, MaxKeys: 1, UseV1: b.cfg.ListObjectsV1, FetchOwner: &noOwner,
	}) {
		if object.Err != nil {
			return false, object.Err
		}
		return object.Key == b.key(f), nil
	}
	return false, ctx.Err()
}
