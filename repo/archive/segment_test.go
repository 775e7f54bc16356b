package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/blob"
	"vitrine/repo/chunker"
	"vitrine/repo/snapshot"
	"vitrine/repo/source/sourcetest"
)

// ender ends the backup when it is read, and goes on.
type ender struct{ end func() }

func (e ender) Read(p []byte) (int, error) {
	e.end()
	return len(p), nil
}

// cutsOf returns the hashes of the chunks of p.
func cutsOf(c *chunker.Chunker, p []byte) []blob.ID {
	ids := []blob.ID{}
	for len(p) > 0 {
		cut := c.Cut(p)
		ids = append(ids, blob.Hash(p[:cut]))
		p = p[cut:]
	}
	return ids
}

// bothWays runs a test with readers that hash chunks and with some that do not.
func bothWays(t *testing.T, test func(t *testing.T)) {
	defer func(was bool) { readerHashes = was }(readerHashes)
	for _, readerHashes = range []bool{false, true} {
		t.Run(fmt.Sprintf("reader hashes %v", readerHashes), test)
	}
}

// TestManyReaders has six readers share memory for one to four segments. Whether their files end, break, or the backup ends
// meanwhile: no chunk is overwritten before it is stored, and all memory is free at the end.
func TestManyReaders(t *testing.T) { bothWays(t, testManyReaders) }

func testManyReaders(t *testing.T) {
	const readers = 6
	noise := sourcetest.Noise(11, 24<<20)
	broken := errors.New("disk is broken")
	for segments := 1; segments <= 4; segments++ {
		for _, last := range []string{"ends", "breaks", "ends the backup"} {
			t.Run(fmt.Sprintf("%d segments, the last file %s", segments, last), func(t *testing.T) {
				var nodes [readers]*snapshot.Node // of what could be read
				wants := make([][]byte, readers)
				r, _, err := engine(t, Options{InFlightBytes: int64(segments) * maxSegment}, func(ctx context.Context, r *run) {
					var reading sync.WaitGroup
					for i := range readers {
						wants[i] = noise[i<<20 : (i+1)<<20+i*20<<20/readers]
						in, expected := io.Reader(bytes.NewReader(wants[i])), int64(len(wants[i])>>(i%3)) // or it grows
						if i == readers-1 {
							switch last {
							case "breaks":
								in = io.MultiReader(in, iotest.ErrReader(broken))
							case "ends the backup":
								in = io.MultiReader(in, ender{func() { r.abort(broken) }})
							}
						}
						reading.Go(func() {
							f := newLarge(&snapshot.Node{}, func(_ context.Context, f *largeFile) {
								if !f.failed {
									nodes[i] = &f.node
								}
							})
							if err := r.readChunks(ctx, in, nil, expected, f); err != nil {
								f.fail()
							}
							f.letGo(ctx)
						})
					}
					reading.Wait()
				})
				if ended := last == "ends the backup"; ended != errors.Is(err, broken) {
					t.Errorf("the backup ended with %v", err)
				}
				for i, n := range nodes {
					if n == nil && (last == "ends" || last == "breaks" && i < readers-1) || n != nil && i == readers-1 && last != "ends" {
						t.Errorf("file %d: complete is %v", i, n != nil)
					}
					if n == nil {
						continue
					}
					if diff := cmp.Diff(cutsOf(r.chunker, wants[i]), n.Content); diff != "" {
						t.Errorf("file %d: chunks (-want +got):\n%s", i, diff)
					}
				}
				if free := len(r.buffers.free[classes-1]); free != segments {
					t.Errorf("%d of %d segments are whole again", free, segments)
				}
			})
		}
	}
}
