package repo_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
)

// sealedBlobs reads the blobs as they are stored.
func sealedBlobs(t testing.TB, r *repo.Repository, hs []blob.Handle) []repo.Decoding {
	t.Helper()
	batch := make([]repo.Decoding, len(hs))
	for i, h := range hs {
		loc, ok, err := r.LookupBlob(h)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		sealed := make([]byte, loc.LengthBytes)
		s := repo.PlanSpans([]blob.Location{loc}, repo.SpanLimits{})[0]
		if err := r.ReadSpan(t.Context(), &s, sealed); err != nil {
			t.Fatal(err)
		}
		batch[i] = repo.Decoding{Entry: blob.Entry{Handle: h, Location: loc}, Sealed: sealed}
	}
	return batch
}

// clones returns a batch whose sealed bytes may be overwritten.
func clones(batch []repo.Decoding) []repo.Decoding {
	batch = slices.Clone(batch)
	for i := range batch {
		batch[i].Sealed = bytes.Clone(batch[i].Sealed)
	}
	return batch
}

func TestDecodeBlobs(t *testing.T) {
	for version := uint(1); version <= 2; version++ {
		first, be := repotest.New(t, version)
		all := append(blobs(11, 70), []byte{}, []byte("a"))
		hs := save(t, first, blob.Data, all)
		r := repotest.Open(t, be)
		stored := sealedBlobs(t, r, hs)
		for _, n := range []int{0, 1, 2, 3, 31, 32, 33, len(all)} {
			batch := clones(stored[len(all)-n:])
			for i := range batch {
				batch[i].Buf = make([]byte, 5, 5+i*1000)
			}
			r.DecodeBlobs(batch)
			for i, d := range batch {
				if want := all[len(all)-n+i]; d.Err != nil || !bytes.Equal(d.Plain, want) {
					t.Errorf("blob %d of %d: %d bytes, %v, want %d bytes", i, n, len(d.Plain), d.Err, len(want))
				}
			}
		}
	}
}

// What is wrong with one blob is said of that one alone, and none of its bytes are handed out.
func TestDecodeBlobsOfDamagedOnes(t *testing.T) {
	first, be := repotest.New(t, 2)
	all := blobs(12, 6) // every other one is compressed
	hs := save(t, first, blob.Data, all)
	r := repotest.Open(t, be)
	stored := sealedBlobs(t, r, hs)
	another := blob.Hash([]byte("another"))
	for what, spoil := range map[string]func(*repo.Decoding){
		"first bit":   func(d *repo.Decoding) { d.Sealed[0] ^= 1 },
		"content":     func(d *repo.Decoding) { d.Sealed[len(d.Sealed)/2] ^= 0x40 },
		"last bit":    func(d *repo.Decoding) { d.Sealed[len(d.Sealed)-1] ^= 0x80 },
		"short":       func(d *repo.Decoding) { d.Sealed = d.Sealed[:20] },
		"another id":  func(d *repo.Decoding) { d.Entry.ID = another },
		"first of id": func(d *repo.Decoding) { d.Entry.ID[0] ^= 1 },
		"last of id":  func(d *repo.Decoding) { d.Entry.ID[31] ^= 1 },
		"plain size":  func(d *repo.Decoding) { d.Entry.PlainBytes ^= 3 },
	} {
		for _, n := range []int{1, 2, 3, 6} {
			for bad := range n {
				batch := clones(stored[:n])
				spoil(&batch[bad])
				r.DecodeBlobs(batch)
				for i, d := range batch {
					switch {
					case i == bad:
						if !errors.Is(d.Err, repo.ErrCorrupt) || d.Plain != nil {
							t.Errorf("%s of blob %d of %d: error %v, %d bytes, want %v and none", what, bad, n, d.Err, len(d.Plain), repo.ErrCorrupt)
						}
					case d.Err != nil || !bytes.Equal(d.Plain, all[i]):
						t.Errorf("%s of blob %d of %d: blob %d has error %v", what, bad, n, i, d.Err)
					}
				}
			}
		}
	}
}

// Two blobs of the same length whose contents are exchanged are genuine for the seal, so only the
// hashes tell.
func TestDecodeBlobsOfExchangedOnes(t *testing.T) {
	first, be := repotest.New(t, 2)
	hs := save(t, first, blob.Data, noisy(13, 3, 20_000))
	r := repotest.Open(t, be)
	stored := sealedBlobs(t, r, hs)
	stored[0].Sealed, stored[1].Sealed = stored[1].Sealed, stored[0].Sealed
	r.DecodeBlobs(stored)
	for i, want := range []error{repo.ErrCorrupt, repo.ErrCorrupt, nil} {
		if d := stored[i]; !errors.Is(d.Err, want) || (d.Plain == nil) != (want != nil) {
			t.Errorf("blob %d: error %v, %d bytes, want %v", i, d.Err, len(d.Plain), want)
		}
	}
}

func TestDecodeTogether(t *testing.T) {
	const kib = 1 << 10
	for _, c := range []struct {
		kib  []uint32
		want int
	}{
		{nil, 0},
		{[]uint32{0}, 1},
		{[]uint32{1, 1, 1}, 3},
		{slices.Repeat([]uint32{1}, 100), 32},
		{[]uint32{64, 64, 1}, 2},
		{[]uint32{64, 65, 1}, 2},
		{[]uint32{60, 65, 1, 3, 1}, 3},
		{[]uint32{1, 128, 1}, 1},
		{[]uint32{100, 300}, 1},
		{[]uint32{1024, 1024, 1024}, 2},
		{[]uint32{1024, 2048}, 2},
		{[]uint32{1024, 2049}, 1},
		{[]uint32{1024, 1}, 2},
		{[]uint32{8192, 8192}, 2},
		{[]uint32{8192, 8193}, 1},
	} {
		entries := make([]blob.Entry, len(c.kib))
		for i, k := range c.kib {
			entries[i].PlainBytes = k * kib
		}
		if got := repo.DecodeTogether(entries); got != c.want {
			t.Errorf("blobs of %d KiB: %d, want %d", c.kib, got, c.want)
		}
	}
}

// noisy returns n blobs of that size, which cannot be compressed.
func noisy(seed byte, n, sizeBytes int) [][]byte {
	rng := rand.NewChaCha8([32]byte{seed})
	all := make([][]byte, n)
	for i := range all {
		all[i] = make([]byte, sizeBytes)
		rng.Read(all[i])
	}
	return all
}

// prose returns n blobs of that size, which compress to about half.
func prose(seed byte, n, sizeBytes int) [][]byte {
	all := noisy(seed, n, sizeBytes)
	for _, p := range all {
		for i := range p {
			p[i] = "etaoinshrdlu etc"[p[i]&15]
		}
	}
	return all
}

var decodeSizes = []struct{ n, sizeBytes int }{{200, 16 << 10}, {8, 1 << 20}}

func BenchmarkDecode(b *testing.B) {
	for _, c := range decodeSizes {
		for what, all := range map[string][][]byte{"noise": noisy(1, c.n, c.sizeBytes), "prose": prose(2, c.n, c.sizeBytes)} {
			first, be := repotest.New(b, 2)
			hs := save(b, first, blob.Data, all)
			r := repotest.Open(b, be)
			stored := sealedBlobs(b, r, hs)
			batch, entries := clones(stored), make([]blob.Entry, len(stored))
			for i := range batch {
				entries[i] = batch[i].Entry
				batch[i].Buf = make([]byte, 0, c.sizeBytes)
			}
			run := func(how string, decode func()) {
				b.Run(fmt.Sprintf("%dx%dKiB/%s/%s", c.n, c.sizeBytes>>10, what, how), func(b *testing.B) {
					b.SetBytes(int64(c.n * c.sizeBytes))
					for b.Loop() {
						for i := range batch { // which the fastest reading takes, too
							copy(batch[i].Sealed, stored[i].Sealed)
						}
						decode()
					}
				})
			}
			check := func(err error) {
				if err != nil {
					b.Fatal(err)
				}
			}
			run("each", func() {
				for i := range batch {
					d := &batch[i]
					_, err := r.DecodeBlob(d.Entry, d.Sealed, batch[0].Buf)
					check(err)
				}
			})
			run("together", func() {
				for i := 0; i < len(batch); {
					n := repo.DecodeTogether(entries[i:])
					group := batch[i : i+n]
					for k := range group {
						group[k].Buf = batch[k].Buf // used again, as readers do
					}
					r.DecodeBlobs(group)
					for k := range group {
						check(group[k].Err)
					}
					i += n
				}
			})
			for i := range batch {
				batch[i].Buf = make([]byte, 0, c.sizeBytes)
			}
			run("all", func() {
				r.DecodeBlobs(batch)
				for i := range batch {
					check(batch[i].Err)
				}
			})
		}
	}
}

func BenchmarkReadBlobs(b *testing.B) {
	for _, c := range decodeSizes {
		for what, all := range map[string][][]byte{"noise": noisy(1, c.n, c.sizeBytes), "prose": prose(2, c.n, c.sizeBytes)} {
			first, be := repotest.New(b, 2)
			hs := save(b, first, blob.Data, all)
			r := repotest.Open(b, be)
			for _, fresh := range []bool{false, true} {
				b.Run(fmt.Sprintf("%dx%dKiB/%s/fresh=%v", c.n, c.sizeBytes>>10, what, fresh), func(b *testing.B) {
					b.SetBytes(int64(c.n * c.sizeBytes))
					var buf []byte
					for b.Loop() {
						r.ReadBlobs(b.Context(), hs, func(_ int, open repo.OpenBlob) bool {
							plain, err := open(buf)
							if err != nil {
								b.Fatal(err)
							}
							if !fresh {
								buf = plain
							}
							return true
						})
					}
				})
			}
		}
	}
}
