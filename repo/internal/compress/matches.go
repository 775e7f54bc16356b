package compress

import "bytes"

// Matches reports whether frame is one zstd frame, with its content size, whose content is plain. It does not tell why not. With
// cgo on amd64 it has its own decoder (matches.h), which takes less time and no memory for the content; that refuses
// checksums, and whatever libzstd would refuse.
func Matches(frame, plain []byte) bool {
	if able && len(plain) > 0 {
		return matches(frame, plain)
	}
	return decodedMatches(frame, plain)
}

// wideLeast is the length from which content is for contentInto: where there are fewer than three blocks it takes longer than the library.
const wideLeast = 3 * maxBlockBytes

// decodedMatches is Matches by the decoder of Decompress.
func decodedMatches(frame, plain []byte) bool {
	buf := decoded.get()
	got, err := Decompress((*buf)[:0], frame, len(plain))
	same := err == nil && bytes.Equal(got, plain)
	if *buf = got; cap(got) <= keptBytes {
		decoded.put(buf)
	}
	return same
}

// keptBytes is the longest memory for a content that is kept: it holds any chunk of a file.
const keptBytes = 16 << 20

// decoded is memory for contents.
var decoded = stack[*[]byte]{fresh: func() *[]byte { return new([]byte) }}
