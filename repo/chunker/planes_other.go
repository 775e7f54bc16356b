//go:build !cgo || !amd64

package chunker

const planesWork = false

type matrices struct{}

func newMatrices(*Chunker) matrices { return matrices{} }

func (*Chunker) skipPlanes([]byte, int) int { panic("chunker: no vector registers") }
