// Package sha256many computes SHA-256 of several messages at a time: two of them interleaved, or sixteen.
//
// One message keeps the SHA unit of a processor waiting for itself: each instruction needs the result of the one before, four
// cycles later on AMD Zen 4, while the unit could begin another one every two. A second message of its own fills the gaps.
// With AVX-512 sixteen messages go beside each other, one in each lane of the registers, which takes the time of eight of
// them by the SHA unit on Intel's Emerald Rapids. Where the processor has neither (or is not an amd64), crypto/sha256 does the
// work, one message after the other.
package sha256many

import (
	"crypto/sha256"
	"encoding/binary"
)

// blockBytes is what SHA-256 works through at a time.
const blockBytes = sha256.BlockSize

// callBlocks is how many blocks are done without a pause: the garbage collector
// cannot stop a goroutine in there. 64 KiB of two messages together, or of sixteen, take 20 to 50 µs.
const (
	callBlocks     = 512
	callBlocksWide = 64
)

// wideLeast is how many messages sixteen lanes are used for if there is a SHA unit for fewer. In MB/s of one processor of that kind,
// 12 and 16 messages are hashed with 2150 and 2900, and two by its SHA unit with 1480. Others have not been measured.
const wideLeast = 9

// wideLeastAlone is that if there is none: crypto/sha256 takes somewhat more than half of the time of sixteen for one.
const wideLeastAlone = 4

// Sums sets sums[i] to the SHA-256 of messages[i], for all i; sums must not be shorter. Messages
// may overlap. When one ends, the next takes its place beside those under way,
// so that lengths need not be alike. The longest is the first: as the last it would go on alone.
func Sums(sums [][sha256.Size]byte, messages [][]byte) {
	longest := 0
	for i, m := range messages {
		if len(m) > len(messages[longest]) {
			longest = i
		}
	}
	var l Lanes
	for i := range messages {
		// The longest, then the others in their order.
		switch {
		case i == 0:
			i = longest
		case i <= longest:
			i--
		}
		if !l.Free() {
			name, sum := l.End()
			sums[name] = sum
		}
		l.Begin(i, messages[i])
	}
	for !l.Empty() {
		name, sum := l.End()
		sums[name] = sum
	}
}

// lanesMost is how many messages are under way at most.
const lanesMost = 16

// Width returns how many messages Lanes takes at a time. With fewer each takes longer.
func Width() int {
	if wide {
		return lanesMost
	}
	return 2
}

// Lanes computes SHA-256 of messages that come one after the other, each beside those before or behind it. The zero value
// has none.
type Lanes struct {
	count  int // of messages under way
	lanes  [lanesMost]lane
	states states // of the lanes
}

// Free reports whether there is room for a message.
func (l *Lanes) Free() bool { return l.count < Width() }

// Empty reports whether no message is under way.
func (l *Lanes) Empty() bool { return l.count == 0 }

// Begin takes a message, which must not change before End has returned its name. There must be room.
func (l *Lanes) Begin(name int, message []byte) {
	k := 0
	for l.lanes[k].busy {
		k++
	}
	l.count++
	lane := &l.lanes[k]
	lane.busy, lane.name, lane.message, lane.at = true, name, message, 0
	if accelerated || wide {
		lane.begin()
		l.states.set(k, &initial)
	}
}

// End goes on until one of the messages is done, and returns its name and its sum. There must be one.
func (l *Lanes) End() (name int, sum [sha256.Size]byte) {
	for {
		var under [lanesMost]int
		n, begun := 0, false
		for k := range l.lanes[:Width()] {
			if lane := &l.lanes[k]; lane.busy {
				if lane.at > 0 && lane.done() {
					return l.end(k, l.states.get(k).sum())
				}
				begun = begun || lane.at > 0
				under[n] = k
				n++
			}
		}
		switch {
		case wide && (n >= wideLeast || !accelerated && (n >= wideLeastAlone || begun)):
			l.goOn(under[:n])
		case !accelerated:
			return l.end(under[0], sha256.Sum256(l.lanes[under[0]].message))
		case n > 1:
			l.both(under[0], under[1])
		default:
			l.one(under[0])
		}
	}
}

// end ends a message.
func (l *Lanes) end(k int, sum [sha256.Size]byte) (int, [sha256.Size]byte) {
	l.count--
	l.lanes[k].message, l.lanes[k].busy = nil, false
	return l.lanes[k].name, sum
}

// goOn does some blocks of all messages under way.
func (l *Lanes) goOn(under []int) {
	var at [lanesMost]*byte
	n := callBlocksWide
	for _, k := range under {
		p, m := l.lanes[k].next()
		at[k] = p
		n = min(n, m)
	}
	for k, p := range at {
		if p == nil {
			at[k] = at[under[0]] // some memory: nobody wants what comes of it
		}
	}
	blocks16(&l.states, &at, n)
	for _, k := range under {
		l.lanes[k].at += n * blockBytes
	}
}

// both goes on until one of two messages is done.
func (l *Lanes) both(j, k int) {
	x, y, xState, yState := &l.lanes[j], &l.lanes[k], l.states.get(j), l.states.get(k)
	for {
		p, n := x.next()
		q, m := y.next()
		n = min(n, m, callBlocks)
		if n == 0 {
			break
		}
		blocks2(&xState, &yState, p, q, n)
		x.at += n * blockBytes
		y.at += n * blockBytes
	}
	l.states.set(j, &xState)
	l.states.set(k, &yState)
}

// one does what is left of a message.
func (l *Lanes) one(k int) {
	x, state := &l.lanes[k], l.states.get(k)
	for {
		p, n := x.next()
		n = min(n, callBlocks)
		if n == 0 {
			break
		}
		blocks(&state, p, n)
		x.at += n * blockBytes
	}
	l.states.set(k, &state)
}

// lane is one message under way: first its whole blocks, then the tail with what is left of it.
type lane struct {
	busy      bool // under way
	name      int
	message   []byte
	tail      [2 * blockBytes]byte
	at        int // bytes that are done, of whole blocks and tail
	tailBytes int // one block or two
}

// begin makes the tail: the rest of the message, a bit, zeros, and the length in bits.
func (l *lane) begin() {
	rest := copy(l.tail[:], l.message[l.whole():])
	l.tail[rest] = 0x80
	clear(l.tail[rest+1:])
	l.tailBytes = blockBytes
	if rest >= blockBytes-8 {
		l.tailBytes = 2 * blockBytes
	}
	binary.BigEndian.PutUint64(l.tail[l.tailBytes-8:], uint64(len(l.message))<<3)
}

// whole returns how many bytes of the message are whole blocks.
func (l *lane) whole() int { return len(l.message) &^ (blockBytes - 1) }

// next returns where the next blocks are and how many: none when the message is done.
func (l *lane) next() (*byte, int) {
	whole := l.whole()
	if l.at < whole {
		return &l.message[l.at], (whole - l.at) / blockBytes
	}
	at := l.at - whole
	if at == l.tailBytes {
		return nil, 0
	}
	return &l.tail[at], (l.tailBytes - at) / blockBytes
}

func (l *lane) done() bool { return l.at == l.whole()+l.tailBytes }

// state is the chaining value a to h of the standard, in the order in which the instructions want
// it: f e b a, h g d c.
type state [8]uint32

// initial is what every message begins with.
var initial = state{
	0x9b05688c, 0x510e527f, 0xbb67ae85, 0x6a09e667,
	0x5be0cd19, 0x1f83d9ab, 0xa54ff53a, 0x3c6ef372,
}

// sum returns the state as the standard writes it.
func (s state) sum() (sum [sha256.Size]byte) {
	for i, word := range standard {
		binary.BigEndian.PutUint32(sum[4*i:], s[word])
	}
	return sum
}

// states are the chaining values of sixteen messages: all a, all b, and so on.
type states [8][lanesMost]uint32

// standard has where each word of a state is in the order of the standard.
var standard = [8]int{3, 2, 7, 6, 1, 0, 5, 4}

func (s *states) set(k int, v *state) {
	for i, word := range standard {
		s[i][k] = v[word]
	}
}

func (s *states) get(k int) (v state) {
	for i, word := range standard {
		v[word] = s[i][k]
	}
	return v
}
