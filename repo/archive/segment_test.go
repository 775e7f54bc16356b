package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/iotest"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

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

// lastly is the end of a file that is not told before wait returns.
type lastly struct{ wait func() }

func (l lastly) Read([]byte) (int, error) {
	l.wait()
	return 0, io.EOF
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
func bothWays(t *testing.T, test func(t *testing.T, readersHash bool)) {
	for _, hash := range []bool{false, true} {
		t.Run(fmt.Sprintf("readers hash %v", hash), func(t *testing.T) { test(t, hash) })
	}
}

// While a reader waits for its file, others have segments to go on in.
func TestReaderWaits(t *testing.T) {
	bothWays(t, func(t *testing.T, readersHash bool) {
		noise := sourcetest.Noise(12, 64<<20)
		arrived := make(chan struct{})
		_, _, err := engine(t, Options{InFlightBytes: 4 * maxSegment}, func(ctx context.Context, r *run) {
			r.readersHash = readersHash
			read := func(in io.Reader) {
				f := newLarge(&snapshot.Node{}, func(context.Context, *largeFile) {})
				check(t, r.readChunks(ctx, in, nil, maxSegment, f))
				f.letGo(ctx)
			}
			var waiting sync.WaitGroup
			began := make(chan struct{})
			// It has read more than there are segments for when its file makes it wait.
			waiting.Go(func() {
				read(io.MultiReader(bytes.NewReader(noise), lastly{func() { close(began); <-arrived }}))
			})
			<-began
			done := make(chan struct{})
			go func() {
				read(bytes.NewReader(noise[:30<<20]))
				close(done)
			}()
			select {
			case <-done:
			case <-time.After(time.Minute):
				t.Error("another file is not read while one waits")
			}
			close(arrived)
			waiting.Wait()
			<-done
		})
		check(t, err)
	})
}

// TestManyReaders has six readers share memory for one to four segments. Whether their files end, break, or the backup ends
// meanwhile: no chunk is overwritten before it is stored, and all memory is free at the end.
func TestManyReaders(t *testing.T) { bothWays(t, testManyReaders) }

func testManyReaders(t *testing.T, readersHash bool) {
	const readers = 6
	noise := sourcetest.Noise(11, 24<<20)
	broken := errors.New("disk is broken")
	for segments := 1; segments <= 4; segments++ {
		for _, last := range []string{"ends", "breaks", "ends the backup"} {
			t.Run(fmt.Sprintf("%d segments, the last file %s", segments, last), func(t *testing.T) {
				var nodes [readers]*snapshot.Node // of what could be read
				wants := make([][]byte, readers)
				r, _, err := engine(t, Options{InFlightBytes: int64(segments) * maxSegment}, func(ctx context.Context, r *run) {
					r.readersHash = readersHash
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

// What no file was read into is not in memory, also where something else was before.
func TestBuffersUntouched(t *testing.T) {
	const n = 4
	before := make([]byte, 2*n*maxSegment)
	for i := range before {
		before[i] = 1
	}
	runtime.KeepAlive(before)
	runtime.GC()
	s := newBuffers(n * maxSegment)
	// A huge page of a neighbour may reach into them at both ends.
	if resident := residentPages(t, s.arena); resident > 2*(2<<20)/os.Getpagesize() {
		t.Errorf("%d pages of new buffers are in memory", resident)
	}
	for _, c := range s.arena {
		if c != 0 {
			t.Fatal("new buffers hold something")
		}
	}
}

// residentPages is how many pages that lie in p as a whole are in memory.
func residentPages(t *testing.T, p []byte) (n int) {
	t.Helper()
	page := os.Getpagesize()
	first := int(-uintptr(unsafe.Pointer(unsafe.SliceData(p))) % uintptr(page))
	present := make([]byte, (len(p)-first)/page)
	if _, _, err := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&p[first])), uintptr(len(present)*page), uintptr(unsafe.Pointer(&present[0]))); err != 0 {
		t.Fatal(err)
	}
	for _, is := range present {
		n += int(is & 1)
	}
	return n
}
