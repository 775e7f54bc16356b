package compress

import "bytes"

// Matches reports whether frame is one zstd frame, with its content size, whose content is plain. It does not tell why not. With
// cgo on amd64 it has its own decoder (matches.h), which takes less time and no memory for the content; that refuses
// checksums, and any frame that RFC 8878 forbids.
func Matches(frame, plain []byte) bool {
	if able && len(plain) > 0 {
		return matches(frame, plain)
	}
	return decodedMatches(frame, plain)
}

// decodedMatches is Matches by the decoder of Decompress.
func decodedMatches(frame, plain []byte) bool {
	buf := decoded.get()
	defer decoded.put(buf)
	got, err := Decompress((*buf)[:0], frame, len(plain))
	*buf = got
	return err == nil && bytes.Equal(got, plain)
}

// decoded is memory for contents.
var decoded = stack[*[]byte]{fresh: func() *[]byte { return new([]byte) }}
