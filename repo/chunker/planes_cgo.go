//go:build cgo && amd64

package chunker

// Where the processor multiplies each byte of a vector register by a matrix of bits, as many streams are scanned at once as
// the register has bytes: 64 with AVX-512 and GFNI, 32 with AVX2, which looks the product up in two tables. A fingerprint
// times 8 has seven whole bytes, the top one of which is to be reduced in the next step; each of the seven is a register,
// its plane, with a byte for each stream. To shift all fingerprints by a byte only the planes' names change. What a byte
// adds to a fingerprint is linear in its bits, and so there is, instead of the tables, a matrix per plane for the top byte,
// for the one that leaves the window, and for the one that comes in, which meets the two lowest planes only.

const planes = 7

// planeFactors are the matrices in the forms that the ways want.
type planeFactors struct {
	matrices factors[uint64]
	tables   factors[table]
}

// factors are those for the top byte and for the byte that leaves, a plane each.
type factors[T any] [planes + planes]T

func newPlaneFactors(c *Chunker) planeFactors {
	return planeFactors{matrices: newFactors(c, matrix), tables: newFactors(c, newTable)}
}

// newFactors makes each with factor, of the plane and of what a byte adds to a fingerprint.
func newFactors[T any](c *Chunker, factor func(plane int, of func(b int) uint64) T) (f factors[T]) {
	for k := range planes {
		f[k] = factor(k, func(b int) uint64 { return c.mod[b] &^ (uint64(b) << degree) })
		f[planes+k] = factor(k, func(b int) uint64 { return c.out[b] })
	}
	return f
}
