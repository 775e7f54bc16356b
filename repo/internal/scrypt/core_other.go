//go:build !amd64 || purego

package scrypt

const accelerated = false

func blockMix(_, _ *uint32, _ int) { panic("scrypt: no assembly") }

func blockMixXOR(_, _, _ *uint32, _ int) { panic("scrypt: no assembly") }
