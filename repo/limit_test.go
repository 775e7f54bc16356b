package repo

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"vitrine/repo/blob"
	"vitrine/repo/chunker"
	"vitrine/repo/internal/compress"
	"vitrine/repo/internal/seal"
	"vitrine/repo/internal/sha256many"
)

const (
	limitPieces = 32 // that are taken of a large file
	limitPiece  = 8 << 20
)

// limitSample returns pieces that are spread evenly over a file, all of it when it is small: the file that
// VITRINE_BENCH_FILE names (scripts/bench does), or else noise.
func limitSample(b *testing.B) [][]byte {
	b.Helper()
	var file io.ReaderAt
	var size int64
	if name := os.Getenv("VITRINE_BENCH_FILE"); name == "" {
		plain := make([]byte, 2*limitPiece)
		rand.NewChaCha8([32]byte{}).Read(plain)
		file, size = bytes.NewReader(plain), int64(len(plain))
	} else {
		f, err := os.Open(name)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			b.Fatal(err)
		}
		file, size = f, info.Size()
	}
	var pieces [][]byte
	step := max(size/limitPieces, limitPiece)
	for at := int64(0); at < size; at += step {
		piece := make([]byte, min(limitPiece, size-at))
		if _, err := file.ReadAt(piece, at); err != nil {
			b.Fatal(err)
		}
		pieces = append(pieces, piece)
	}
	return pieces
}

// limitBlob is a blob on its way: plain, as it is sealed, and sealed.
type limitBlob struct{ plain, content, sealed []byte }

// BenchmarkLimit tells how fast one processor does nothing but one of the steps that make a stored blob of plain bytes, when
// these are in its caches as they are in a backup. The MB are always those of the plain bytes, also where a step works at
// the compressed ones.
func BenchmarkLimit(b *testing.B) {
	pol, err := chunker.RandomPol()
	if err != nil {
		b.Fatal(err)
	}
	c, codec, key := chunker.New(pol), compress.New(compress.Auto), seal.NewKey()
	pieces := limitSample(b)
	plains := make([][][]byte, len(pieces)) // the blobs of each piece
	var blobs []limitBlob
	var whole, most int
	var out []byte
	for i, piece := range pieces {
		whole += len(piece)
		for rest := piece; len(rest) > 0; {
			n := c.Cut(rest)
			out = sized(out, compress.BoundBytes(n)+blob.SealOverheadBytes)
			l := limitBlob{plain: rest[:n], content: rest[:n]}
			if frame, ok := codec.Compress(out, l.plain); ok {
				l.content = bytes.Clone(frame)
			}
			l.sealed = key.Seal(nil, l.content)
			plains[i], blobs, rest = append(plains[i], l.plain), append(blobs, l), rest[n:]
		}
		most = max(most, len(plains[i]))
	}
	// step measures the second of two calls for each of n parts.
	step := func(name string, n int, fn func(i int) error) {
		b.Run(name, func(b *testing.B) {
			var took time.Duration
			rounds := 0
			for b.Loop() {
				rounds++
				for i := range n {
					err := fn(i)
					began := time.Now()
					err = errors.Join(err, fn(i))
					took += time.Since(began)
					if err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(whole)*float64(rounds)/1e6/took.Seconds(), "MB/s")
		})
	}
	step("cut", len(pieces), func(i int) error {
		for rest := pieces[i]; len(rest) > 0; {
			rest = rest[c.Cut(rest):]
		}
		return nil
	})
	sums := make([][len(blob.ID{})]byte, most)
	step("hash", len(pieces), func(i int) error {
		sha256many.Sums(sums[:len(plains[i])], plains[i])
		return nil
	})
	step("compress", len(blobs), func(i int) error {
		codec.Compress(out, blobs[i].plain)
		return nil
	})
	step("seal", len(blobs), func(i int) error {
		key.Seal(out, blobs[i].content)
		return nil
	})
	step("verify", len(blobs), func(i int) error {
		l := blobs[i]
		if err := key.Verify(l.sealed, l.content); err != nil || len(l.content) == len(l.plain) {
			return err
		}
		if !compress.Matches(l.content, l.plain) {
			return errors.New("no match")
		}
		return nil
	})
}
