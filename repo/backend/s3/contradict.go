package s3

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"vitrine/repo/backend"
)

// A cluster may deny a file that it has. MinIO does so while one of its servers is dead: another one, that takes a third
// for dead as well, finds the object on one drive and not on its own, and says NoSuchKey instead of that it cannot know.
// Until the servers see each other again, which takes half a minute at most, they list the file and deny it.
const (
	// contradictedFor is how long a file may be listed and denied before it counts as gone.
	contradictedFor = time.Minute

	// contradictedAnew is after what time without a question for the file a contradiction is another one: nobody was waiting. It
	// is longer than who tries again pauses.
	contradictedAnew = 5 * time.Minute

	// maxContradicted is how many files are waited for in vain before any other one counts as gone at once.
	maxContradicted = 8
)

// contradictions are the files that the server lists and denies.
type contradictions struct {
	now func() time.Time

	mu    sync.Mutex               // guards the rest
	files map[string]contradiction // by the key of the object
	gone  int                      // how many of files were waited for in vain; these stay
}

// contradiction is when a file was first listed and denied, and when last. Of one that was waited for in vain first is zero.
type contradiction struct{ first, last time.Time }

// passes notes a contradiction and tells whether it may still pass.
func (c *contradictions) passes(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	file, known := c.files[key]
	now := c.now()
	switch {
	case c.gone >= maxContradicted, known && file.first.IsZero():
		return false
	case !known, now.Sub(file.last) >= contradictedAnew:
		file.first = now
	case now.Sub(file.first) >= contradictedFor:
		c.files[key] = contradiction{}
		c.gone++
		return false
	}
	file.last = now
	c.files[key] = file
	return true
}

// settle notes that a file was read.
func (c *contradictions) settle(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if file, known := c.files[key]; known {
		if file.first.IsZero() {
			c.gone--
		}
		delete(c.files, key)
	}
}

var errContradiction = backend.Classed(backend.ErrFails, errors.New("the server lists it and says that it is not there"))

// believe returns what the answer to a GET comes to. That a file is not there is true when the server does not list it
// either. Locks come and go, so that a listing tells nothing of them, and who reads them knows of clusters that list what was removed.
func (b *Backend) believe(ctx context.Context, f backend.File, err error) error {
	if f.Kind == backend.Lock {
		return err
	}
	if err == nil {
		b.contradictions.settle(b.key(f))
		return nil
	}
	if minio.ToErrorResponse(err).Code != minio.NoSuchKey || doubtful(minio.ToErrorResponse(err)) {
		return err
	}
	listed, listErr := b.lists(ctx, f)
	switch {
	case listErr != nil && !backend.IsPermanent(b.explain(listErr)):
		return listErr
	case listErr != nil, !listed, !b.contradictions.passes(b.key(f)):
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
