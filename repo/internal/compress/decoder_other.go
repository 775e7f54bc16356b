//go:build !cgo || !amd64

package compress

const able = false // to do matches

var wide = false // blocks are decoded beside each other

func matches(frame, plain []byte) bool { panic("compress: no decoder") }

func contentInto(dst, frame []byte) bool { return false }
