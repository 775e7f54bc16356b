//go:build cgo && amd64

package compress

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// handmade is a frame of blocks of 128 KiB as they are, as many as others need to be decoded beside each other, and blocks made by hand.
type handmade struct {
	frame []byte
}

func newHandmade(plainBytes int) *handmade {
	h := &handmade{binary.LittleEndian.AppendUint32(nil, frameMagic)}
	h.frame = append(h.frame, 0xa0) // content size in four bytes, no window
	h.frame = binary.LittleEndian.AppendUint32(h.frame, uint32(plainBytes))
	return h
}

// block appends a block of a type: 0 as it is, 2 compressed.
func (h *handmade) block(kind int, body []byte, last bool) {
	header := uint32(kind<<1 | len(body)<<3)
	if last {
		header |= 1
	}
	h.frame = append(h.frame, byte(header), byte(header>>8), byte(header>>16))
	h.frame = append(h.frame, body...)
}

// sequences returns the body of a compressed block: literals as they are, up to 31, and sequences that have the same codes, with these bits
// added in the order in which they are read.
func sequences(literals []byte, ll, of, ml byte, added ...string) []byte {
	body := append([]byte{byte(len(literals) << 3)}, literals...)
	body = append(body, byte(len(added)), 0x54, ll, of, ml) // one symbol each
	return append(body, bitsOf(strings.Join(added, ""))...)
}

// bitsOf returns bits that are read from the end on, the first of the string first.
func bitsOf(s string) []byte {
	var p []byte
	bits := "1" + s
	bits = strings.Repeat("0", (8-len(bits)%8)%8) + bits
	for at := len(bits) - 8; at >= 0; at -= 8 {
		var b byte
		for _, c := range bits[at : at+8] {
			b = b<<1 | byte(c-'0')
		}
		p = append(p, b)
	}
	return p
}

const wholeBytes = 128 << 10

// A block takes over offsets from the one before it, and subtracts from them.
func TestOffsetsOfTheBlockBefore(t *testing.T) { eachDecoder(t, testOffsetsOfTheBlockBefore) }

func testOffsetsOfTheBlockBefore(t *testing.T) {
	const matchBytes = 23
	plain := noise(3 * wholeBytes)
	h := newHandmade(len(plain) + 5 + 6*matchBytes)
	for k := range 3 {
		h.block(0, plain[k*wholeBytes:][:wholeBytes], false)
	}
	match := func(offset int) { plain = append(plain, plain[len(plain)-offset:][:matchBytes]...) }
	h.block(2, sequences([]byte("abcde"), 5, 10, 20, "0000000101"), false)
	plain = append(plain, "abcde"...)
	match(1024 + 5 - 3)
	h.block(2, sequences(nil, 0, 11, 20, "00000000111"), false)
	match(2048 + 7 - 3)
	// Code 1 with 1 is offset 3: without literals it is the last one less 1, and with 0, offset 2, the third of the last.
	h.block(2, sequences(nil, 0, 1, 20, "1", "1", "0"), false)
	match(2048 + 7 - 3 - 1)
	match(2048 + 7 - 3 - 2)
	match(2048 + 7 - 3)
	h.block(2, sequences(nil, 0, 1, 20, "1"), true)
	match(2048 + 7 - 3 - 1)
	if !Matches(h.frame, plain) {
		t.Error("the frame does not match")
	}
	if got, err := Decompress(nil, h.frame, len(plain)); err != nil || differ(got, plain) >= 0 {
		t.Errorf("other content from byte %d on, %v", differ(got, plain), err)
	}
}

// What is no block is refused wherever it comes, and nothing beyond frame and content is touched.
func TestBlocksThatAreNone(t *testing.T) { eachDecoder(t, testBlocksThatAreNone) }

func testBlocksThatAreNone(t *testing.T) {
	const longRun, longMatch = 35, 52 // codes
	const longRunBytes = 65536
	sixteen := strings.Repeat("0", 16)
	type fault struct {
		body []byte
		tail string // content that it would have if it were a block
	}
	twice := noise(3 * wholeBytes) // with two matches of three bytes at an offset of five
	for range 2 {
		twice = append(twice, twice[len(twice)-5:][:3]...)
	}
	twice = twice[3*wholeBytes:]
	zeros := strings.Repeat("\x00", longRunBytes+3)
	for name, f := range map[string]fault{
		"more literals than there are":         {sequences([]byte("abcde"), longRun, 3, 0, "000"+sixteen), zeros},
		"more literals after others":           {sequences([]byte("abcdefghijklmnop"), 15, 3, 0, "000", "000"), zeros},
		"an offset beyond the beginning":       {sequences([]byte("abcde"), 5, 19, 0, strings.Repeat("1", 19)), zeros},
		"an offset that is no placeholder":     {sequences([]byte("abcde"), 5, 28, 0, binaryOf(1<<27+2, 28)), "abcdecde"},
		"an offset of 32 bits":                 {sequences([]byte("abcde"), 5, 31, 0, strings.Repeat("1", 31)), zeros},
		"an offset that becomes zero":          {sequences(nil, 0, 1, 0, "1", "1", "1"), zeros},
		"offsets that become less than zero":   {sequences(nil, 0, 1, 0, "1", "1", "1", "1", "1", "1"), zeros},
		"more content than a block has":        {sequences(nil, 0, 0, longMatch, sixteen, sixteen, sixteen), zeros},
		"fewer bits":                           {sequences(nil, 0, 3, 0, "000", "00"), string(twice)},
		"more bits":                            {sequences(nil, 0, 3, 0, "000", "0000"), string(twice)},
		"bits of two long values and no third": {sequences([]byte("abcde"), 5, 28, longMatch, strings.Repeat("0", 28)), zeros},
	} {
		end := make([]byte, 66) // so that literals are used where they are
		plain := noise(3 * wholeBytes)
		h := newHandmade(len(plain) + len(f.tail) + len(end))
		for k := range 3 {
			h.block(0, plain[k*wholeBytes:][:wholeBytes], false)
		}
		h.block(2, f.body, false)
		h.block(0, end, true)
		plain = slices.Concat(plain, []byte(f.tail), end)
		if Matches(h.frame, plain) || libraryMatches(h.frame, plain) {
			t.Errorf("%s: the frame matches", name)
		}
		if _, err := Decompress(nil, h.frame, len(plain)); err == nil {
			t.Errorf("%s: no error", name)
		}
		atEnd := guarded(t, len(h.frame))
		atEnd = atEnd[len(atEnd)-len(h.frame):]
		copy(atEnd, h.frame)
		room := guarded(t, len(plain))
		room = room[len(room)-len(plain):]
		copy(room, plain)
		if Matches(atEnd, room) || contentInto(room, atEnd) {
			t.Errorf("%s: a frame between guards is one", name)
		}
	}
}

// Where a frame begins with a block whose bits are fewer than its sequences take, nothing before it is read.
func TestNothingBeforeTheFrame(t *testing.T) { eachDecoder(t, testNothingBeforeTheFrame) }

func testNothingBeforeTheFrame(t *testing.T) {
	for name, body := range map[string][]byte{
		"no bits for many": sequences(nil, 25, 31, 43, make([]string, 127)...), // 44 each
		// The default tables, in states of codes with 60 bits together.
		"no bits but for states": append([]byte{0, 1, 0}, bitsOf("111100"+"11011"+"111001")...),
	} {
		frame := binary.LittleEndian.AppendUint32(nil, frameMagic)
		frame = append(frame, 0x20, 100) // content size in one byte
		h := handmade{frame}
		h.block(2, body, false)
		for k := range 4 {
			h.block(0, []byte{1}, k == 3)
		}
		atStart := guarded(t, len(h.frame))[:len(h.frame)]
		copy(atStart, h.frame)
		if Matches(atStart, make([]byte, 100)) {
			t.Errorf("%s: the frame matches", name)
		}
	}
}

// Runs, matches and offsets that are as long as can be, so that a sequence has more bits than are at hand at a time.
func TestAllBitsOfASequence(t *testing.T) { eachDecoder(t, testAllBitsOfASequence) }

func testAllBitsOfASequence(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	plain := noise(8 * wholeBytes)
	h := newHandmade(len(plain) + 2*wholeBytes)
	for k := range 8 {
		h.block(0, plain[k*wholeBytes:][:wholeBytes], false)
	}
	// Offset 2^19 + 19 bits, match 65539 + 16 bits, a run of 32768 + 15 bits.
	for k := range 2 {
		literals := make([]byte, 32768+1000+r.IntN(1000))
		for i := range literals {
			literals[i] = byte(r.Uint32())
		}
		offset, match := 1<<19+r.IntN(1<<19-200), 65539+r.IntN(1<<14)
		bits := binaryOf(offset-1<<19, 19) + binaryOf(match-65539, 16) + binaryOf(len(literals)-32768, 15)
		rest := wholeBytes - match - len(literals)
		all := slices.Concat(literals, noise(rest))
		body := []byte{byte(3<<2 | len(all)<<4&0xf0), byte(len(all) >> 4), byte(len(all) >> 12)} // 20 bits of length
		body = append(body, all...)
		h.block(2, append(body, sequences(nil, 34, 19, 52, bits)[1:]...), k == 1)
		plain = append(plain, literals...)
		for range match {
			plain = append(plain, plain[len(plain)-offset+3])
		}
		plain = append(plain, noise(rest)...)
	}
	if !Matches(h.frame, plain) || !libraryMatches(h.frame, plain) {
		t.Error("the frame does not match")
	}
	if got, err := Decompress(nil, h.frame, len(plain)); err != nil || differ(got, plain) >= 0 {
		t.Errorf("other content from byte %d on, %v", differ(got, plain), err)
	}
}

// binaryOf returns the lowest n bits of v.
func binaryOf(v, n int) string {
	var b strings.Builder
	for i := n - 1; i >= 0; i-- {
		b.WriteByte('0' + byte(v>>i&1))
	}
	return b.String()
}
