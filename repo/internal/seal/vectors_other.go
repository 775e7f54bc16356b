//go:build !cgo || !amd64

package seal

type vectorKey struct{}

func newVectorKey(*Key) *vectorKey { return nil }

func (*vectorKey) seal(*[macBytes]byte, []byte, []byte, []byte, *[32]byte) {
	panic("seal: no vector registers")
}

func (*vectorKey) verify(*[macBytes]byte, []byte, []byte, []byte, *[32]byte) uint64 {
	panic("seal: no vector registers")
}

func (*vectorKey) sumMAC(*[macBytes]byte, []byte, *[32]byte) { panic("seal: no vector registers") }

func (*vectorKey) crypt([]byte, []byte, []byte) { panic("seal: no vector registers") }
