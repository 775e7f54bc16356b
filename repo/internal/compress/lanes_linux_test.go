//go:build cgo && amd64

package compress

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// handmade is a frame of blocks of maxBlockBytes as they are, as many as others need to be decoded beside each other, and blocks made by hand.
type handmade struct{ frame []byte }

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

// mustBe checks that the frame has this content for each decoder there is.
func (h *handmade) mustBe(t *testing.T, plain []byte) {
	t.Helper()
	if !Matches(h.frame, plain) || !libraryMatches(h.frame, plain) {
		t.Error("the frame does not match")
	}
	got := make([]byte, len(plain))
	if wide && (!contentInto(got, h.frame) || differ(got, plain) >= 0) {
		t.Errorf("the frame is not decoded, or other content from byte %d on", differ(got, plain))
	}
}

// A block takes over offsets from those before it, and subtracts from them.
func TestOffsetsOfTheBlockBefore(t *testing.T) { eachDecoder(t, testOffsetsOfTheBlockBefore) }

func testOffsetsOfTheBlockBefore(t *testing.T) {
	const matchBytes = 23
	plain := noise(3 * maxBlockBytes)
	h := newHandmade(len(plain) + 5 + 12*matchBytes + 3)
	for k := range 3 {
		h.block(0, plain[k*maxBlockBytes:][:maxBlockBytes], false)
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
	h.block(2, []byte{3 << 3, 'x', 'y', 'z', 0}, false) // no sequences
	plain = append(plain, "xyz"...)
	for k := range 7 { // more than are decoded together
		h.block(2, sequences(nil, 0, 1, 20, "1"), k == 6)
		match(2048 + 7 - 3 - 1 - k)
	}
	h.mustBe(t, plain)
}

// What is no block is refused wherever it comes, and nothing beyond frame and content is touched.
func TestBlocksThatAreNone(t *testing.T) { eachDecoder(t, testBlocksThatAreNone) }

func testBlocksThatAreNone(t *testing.T) {
	const longRun, longMatch = 35, 52 // codes
	const longRunBytes, longMatchBytes = 65536, 65539
	sixteen := strings.Repeat("0", 16)
	type fault struct {
		body []byte
		tail string // content that it would have if it were a block, as far as there is such
	}
	twice := noise(3 * maxBlockBytes) // with two matches of three bytes at an offset of five
	for range 2 {
		twice = append(twice, twice[len(twice)-5:][:3]...)
	}
	twice = twice[3*maxBlockBytes:]
	longer := noise(3 * maxBlockBytes) // with three long matches at offsets of 4, 1 and 4
	for _, offset := range []int{4, 1, 4} {
		for range longMatchBytes {
			longer = append(longer, longer[len(longer)-offset])
		}
	}
	longer = longer[3*maxBlockBytes:]
	const beyond = 3*maxBlockBytes + len("abcde") + 4096 // on the page before
	zeros := strings.Repeat("\x00", longRunBytes+3)
	for name, f := range map[string]fault{
		"more literals than there are":       {sequences([]byte("abcde"), longRun, 3, 0, "000"+sixteen), zeros},
		"more literals after others":         {sequences([]byte("abcdefghijklmnop"), 15, 3, 0, "000", "000"), zeros},
		"an offset beyond the beginning":     {sequences([]byte("abcde"), 5, 18, 0, binaryOf(beyond+3-1<<18, 18)), "abcdefgh"},
		"an offset that is no placeholder":   {sequences([]byte("abcde"), 5, 28, 0, binaryOf(1<<27+2, 28)), "abcdecde"},
		"an offset of 32 bits":               {sequences([]byte("abcde"), 5, 31, 0, strings.Repeat("1", 31)), "abcdefgh"},
		"an offset that becomes zero":        {sequences(nil, 0, 1, 0, "1"), zeros[:3]},
		"offsets that become less than zero": {sequences(nil, 0, 1, 0, "1", "1", "1", "1", "1", "1"), zeros[:18]},
		"more content than a block has":      {sequences(nil, 0, 0, longMatch, sixteen, sixteen, sixteen), string(longer)},
		"fewer bits":                         {sequences(nil, 0, 3, 0, "000", "00"), string(twice)},
		"more bits":                          {sequences(nil, 0, 3, 0, "000", "0000"), string(twice)},
	} {
		end := make([]byte, 66) // so that literals are used where they are
		plain := noise(3 * maxBlockBytes)
		h := newHandmade(len(plain) + len(f.tail) + len(end))
		for k := range 3 {
			h.block(0, plain[k*maxBlockBytes:][:maxBlockBytes], false)
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
		atEnd, room := place(guarded(t, len(h.frame)), h.frame, true), place(guarded(t, len(plain)), plain, true)
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
		atStart := place(guarded(t, len(h.frame)), h.frame, false)
		if Matches(atStart, make([]byte, 100)) {
			t.Errorf("%s: the frame matches", name)
		}
	}
}

// Sequences that have more bits than are at hand at a time, each the last one of its block.
func TestAllBitsOfASequence(t *testing.T) { eachDecoder(t, testAllBitsOfASequence) }

func testAllBitsOfASequence(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	const whole, long = 6, 2 // blocks
	plain := noise(whole * maxBlockBytes)
	h := newHandmade((whole + long) * maxBlockBytes)
	for k := range whole {
		h.block(0, plain[k*maxBlockBytes:][:maxBlockBytes], false)
	}
	for k := range long {
		run, match := 32768+1000+r.IntN(1000), 65539+r.IntN(1<<14)
		offset := 1<<19 + r.IntN(1<<18-100)
		rest := maxBlockBytes - match - run
		literals := make([]byte, run+rest)
		for i := range literals {
			literals[i] = byte(r.Uint32())
		}
		n := len(literals)
		body := []byte{byte(3<<2 | n<<4&0xf0), byte(n >> 4), byte(n >> 12)} // 20 bits of length
		body = append(append(body, literals...), 1, 0)                      // a sequence, and the default tables
		// States of codes 34, 19 and 52, which have 15, 19 and 16 bits more; 67 bits together.
		bits := "111101" + "10110" + "111001" + binaryOf(offset-1<<19, 19) + binaryOf(match-65539, 16) + binaryOf(run-32768, 15)
		h.block(2, append(body, bitsOf(bits)...), k == long-1)
		plain = append(plain, literals[:run]...)
		for range match {
			plain = append(plain, plain[len(plain)-offset+3])
		}
		plain = append(plain, literals[run:]...)
	}
	h.mustBe(t, plain)
}

// binaryOf returns the lowest n bits of v.
func binaryOf(v, n int) string {
	var b strings.Builder
	for i := n - 1; i >= 0; i-- {
		b.WriteByte('0' + byte(v>>i&1))
	}
	return b.String()
}
