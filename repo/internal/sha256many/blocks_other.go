//go:build !amd64 || purego

package sha256many

const accelerated, wide = false, false

func blocks(*state, *byte, int) { panic("sha256many: no SHA instructions") }

func blocks2(_, _ *state, _, _ *byte, _ int) { panic("sha256many: no SHA instructions") }

func blocks16(*states, *[lanesMost]*byte, int) { panic("sha256many: no AVX-512") }
