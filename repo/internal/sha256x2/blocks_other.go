//go:build !amd64 || purego

package sha256x2

const accelerated = false

func blocks(*state, *byte, int) { panic("sha256x2: no SHA instructions") }

func blocks2(_, _ *state, _, _ *byte, _ int) { panic("sha256x2: no SHA instructions") }
