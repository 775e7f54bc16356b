//go:build !linux

package scrypt

func words(n int) ([]uint32, func()) { return make([]uint32, n), func() {} }
