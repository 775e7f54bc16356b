// Package sha256x2 computes SHA-256 of several messages at a time, two of them interleaved.
//
// One message keeps the SHA unit of a processor waiting for itself: each instruction needs the
// result of the one before, four cycles later on AMD Zen 4, while the unit could begin another one
// every two. A second message of its own fills the gaps. Where the processor has no such unit (or is not an amd64),
// crypto/sha256 does the work, one message after the other.
package sha256x2

import (
	"crypto/sha256"
	"encoding/binary"
)

// blockBytes is what SHA-256 works through at a time.
const blockBytes = sha256.BlockSize

// callBlocks is how many blocks of each message are done without a pause: the garbage collector
// cannot stop a goroutine in there. 64 KiB of both together take about 20 µs.
const callBlocks = 512

// Sums sets sums[i] to the SHA-256 of messages[i], for all i; sums must not be shorter. Messages
// may overlap. When one ends, the next takes its place beside the other one under way,
// so that lengths need not be alike. The longest is the first: as the last it would go on alone.
func Sums(sums [][sha256.Size]byte, messages [][]byte) {
	longest := 0
	for i, m := range messages {
		if len(m) > len(messages[longest]) {
			longest = i
		}
	}
	var p Pair
	for i := range messages {
		// The longest, then the others in their order.
		switch {
		case i == 0:
			i = longest
		case i <= longest:
			i--
		}
		if !p.Free() {
			name, sum := p.End()
			sums[name] = sum
		}
		p.Begin(i, messages[i])
	}
	for !p.Empty() {
		name, sum := p.End()
		sums[name] = sum
	}
}

// Pair computes SHA-256 of messages that come one after the other, each beside the one before or behind it. The zero value
// has none.
type Pair struct {
	lanes    [2]lane
	names    [2]int
	messages [2][]byte
	under    [2]bool // way
}

// Free reports whether there is room for a message.
func (p *Pair) Free() bool { return !p.under[0] || !p.under[1] }

// Empty reports whether no message is under way.
func (p *Pair) Empty() bool { return !p.under[0] && !p.under[1] }

// Begin takes a message, which must not change before End has returned its name. There must be room.
func (p *Pair) Begin(name int, message []byte) {
	k := 0
	if p.under[0] {
		k = 1
	}
	p.names[k], p.messages[k], p.under[k] = name, message, true
	if accelerated {
		p.lanes[k].begin(message)
	}
}

// End goes on until one of the messages is done, and returns its name and its sum. There must be one.
func (p *Pair) End() (name int, sum [sha256.Size]byte) {
	k := 0
	switch {
	case !p.under[0]:
		k = 1
	case p.under[1] && accelerated:
		both(&p.lanes[0], &p.lanes[1])
		if !p.lanes[0].done() {
			k = 1
		}
	}
	message := p.messages[k]
	p.messages[k], p.under[k] = nil, false
	if !accelerated {
		return p.names[k], sha256.Sum256(message)
	}
	return p.names[k], p.lanes[k].finish()
}

// lane is one message under way: first its whole blocks, then the tail with what is left of it.
type lane struct {
	h         state
	message   []byte // whole blocks only
	tail      [2 * blockBytes]byte
	at        int // bytes that are done, of message and tail
	tailBytes int // one block or two
}

// begin takes a message. The lane must be new or finished.
func (l *lane) begin(message []byte) {
	whole := len(message) &^ (blockBytes - 1)
	l.h, l.message, l.at = initial, message[:whole], 0
	// The rest of the message, a bit, zeros, and the length in bits.
	rest := copy(l.tail[:], message[whole:])
	l.tail[rest] = 0x80
	clear(l.tail[rest+1:])
	l.tailBytes = blockBytes
	if rest >= blockBytes-8 {
		l.tailBytes = 2 * blockBytes
	}
	binary.BigEndian.PutUint64(l.tail[l.tailBytes-8:], uint64(len(message))<<3)
}

// next returns where the next blocks are and how many: none when the message is done.
func (l *lane) next() (*byte, int) {
	if l.at < len(l.message) {
		return &l.message[l.at], (len(l.message) - l.at) / blockBytes
	}
	at := l.at - len(l.message)
	if at == l.tailBytes {
		return nil, 0
	}
	return &l.tail[at], (l.tailBytes - at) / blockBytes
}

func (l *lane) done() bool { return l.at == len(l.message)+l.tailBytes }

// both goes on until one of the messages is done.
func both(x, y *lane) {
	for {
		p, n := x.next()
		q, m := y.next()
		n = min(n, m, callBlocks)
		if n == 0 {
			return
		}
		blocks2(&x.h, &y.h, p, q, n)
		x.at += n * blockBytes
		y.at += n * blockBytes
	}
}

// finish does what is left of the message and returns its sum.
func (l *lane) finish() (sum [sha256.Size]byte) {
	for {
		p, n := l.next()
		n = min(n, callBlocks)
		if n == 0 {
			return l.h.sum()
		}
		blocks(&l.h, p, n)
		l.at += n * blockBytes
	}
}

// state is the chaining value a to h of the standard, in the order in which the instructions want
// it: f e b a, h g d c.
type state [8]uint32

// initial is what every message begins with.
var initial = state{
	0x9b05688c, 0x510e527f, 0xbb67ae85, 0x6a09e667,
	0x5be0cd19, 0x1f83d9ab, 0xa54ff53a, 0x3c6ef372,
}

// sum returns the state as the standard writes it.
func (s *state) sum() (sum [sha256.Size]byte) {
	for i, word := range [...]int{3, 2, 7, 6, 1, 0, 5, 4} {
		binary.BigEndian.PutUint32(sum[4*i:], s[word])
	}
	return sum
}
