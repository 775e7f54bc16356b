//go:build !cgo || !amd64

package chunker

const works512, works256 = false, false

type planeFactors struct{}

func newPlaneFactors(*Chunker) planeFactors { return planeFactors{} }

func (*Chunker) skip512([]byte, int) int { panic("chunker: no vector registers") }

func (*Chunker) skip256([]byte, int) int { panic("chunker: no vector registers") }
