//go:build !linux

package hugepage

// Advise does nothing.
func Advise([]byte) {}

// Unprovide does nothing.
func Unprovide([]byte) {}
