package repo

import (
	"context"

	"vitrine/repo/blob"
	"vitrine/repo/internal/sha256many"
)

// LendBlob returns the plain bytes of a blob, verified. They are valid until use returns.
type LendBlob func() ([]byte, error)

// LendBlobs is ReadBlobs for those who want all of the blobs, or nearly: it copies nothing, and each blob is hashed beside those
// before or behind it, whatever their lengths. What is decoded before it is asked for is as many as are hashed together
// (HashesMost), of 16 MiB together at most if they are not large, or as many as are hashed while a long one is.
func (r *Repository) LendBlobs(ctx context.Context, hs []blob.Handle, use func(i int, lend LendBlob) bool) {
	l := &lender{batch: r.fetch(ctx, hs), decoded: make([]lent, len(hs))}
	plain := spanBuffers.Get().(*[]byte)
	*plain = grown(*plain, l.roomBytes())
	l.ring.buf = *plain
	defer func() {
		l.release()
		putSpan(plain)
	}()
	for i := range hs {
		if !use(i, func() ([]byte, error) { return l.lend(ctx, i) }) {
			return
		}
	}
}

// lender decodes the blobs of one call of LendBlobs.
type lender struct {
	*batch
	decoded []lent
	next    int // the first blob that is not begun
	first   int // the first blob that may have room in ring
	ring    ring
	hashes  sha256many.Lanes
	own     []byte // for what is read alone
}

// lent is what has become of a blob.
type lent struct {
	state lentState
	plain []byte // once it is unsealed
	room  int    // bytes of ring, with those that were left behind the blob before it
}

type lentState uint8

const (
	ahead    lentState = iota // not begun
	hashing                   // in hashes
	verified                  // plain is right
	alone                     // ReadBlob is to do it: it was not read with the others, or what was read is damaged
)

const (
	// ringBytes is the least that is decoded into: so much stays in the processor's nearer caches.
	ringBytes = 256 << 10
	// ringMost is the most that is decoded into so that many are hashed together.
	ringMost = 16 << 20
	// lentBytes is the most of a blob that is decoded beside others.
	lentBytes = 8 << 20
)

// roomBytes returns how much the ring needs: three of the largest, so that two are hashed while one is used, or one more than are
// hashed at a time if they are small.
func (l *lender) roomBytes() int {
	sum, largest, count := 0, 0, 0
	for i := range l.hs {
		size := l.locs[i].Size() // as the index has it: more than an int may hold
		if size > lentBytes {
			l.sealed[i] = nil
		}
		if l.sealed[i] != nil {
			sum += int(size)
			largest = max(largest, int(size))
			count++
		}
	}
	together := (sha256many.Width() + 1) * (sum / max(1, count))
	return min(sum, max(ringBytes, 3*largest, min(ringMost, together)))
}

// lend is LendBlob for blob i.
func (l *lender) lend(ctx context.Context, i int) ([]byte, error) {
	if err := l.failed[i]; err != nil {
		return nil, failLoad(l.hs[i], l.locs[i], err)
	}
	b := &l.decoded[i]
	for b.state == ahead || b.state == hashing {
		l.free(i)
		if l.hashes.Free() && l.begin(i) {
			continue
		}
		j, sum := l.hashes.End()
		l.decoded[j].state = verified
		if compareID(l.hs[j].ID, sum) != nil {
			l.decoded[j].state = alone
		}
	}
	if b.state == verified {
		return b.plain, nil
	}
	// Also after an error: this one says what is wrong, or finds another copy.
	plain, err := l.r.ReadBlob(ctx, l.hs[i], l.own)
	if err == nil {
		l.own = plain
	}
	return plain, err
}

// begin unseals the next blob and gives it to hashes, while blob i is asked for. It is false when there is none, or no
// room for it yet; for blob i there is room when hashes is empty.
func (l *lender) begin(i int) bool {
	j := max(l.next, i) // those before i nobody wants any more
	if j == len(l.hs) {
		return false
	}
	b := &l.decoded[j]
	if l.sealed[j] != nil {
		var room []byte
		var ok bool
		if room, b.room, ok = l.ring.take(int(l.locs[j].Size())); !ok {
			return false
		}
		b.state = hashing
		var err error
		if b.plain, err = l.r.unseal(l.locs[j], l.sealed[j], room); err == nil {
			l.hashes.Begin(j, b.plain)
		} else {
			b.state = alone
		}
		l.sealed[j] = nil // it is overwritten
	} else {
		b.state = alone
	}
	l.next = j + 1
	return true
}

// free gives back the room of what was lent before blob i, but not from a blob on that is still being hashed because it was not
// asked for.
func (l *lender) free(i int) {
	for ; l.first < min(i, l.next) && l.decoded[l.first].state != hashing; l.first++ {
		b := &l.decoded[l.first]
		l.ring.give(b.room)
		b.plain, b.room = nil, 0
	}
}

// ring gives out pieces of a buffer, which come back in the order in which they went.
type ring struct {
	buf      []byte
	end      int // of the last piece
	outBytes int // with what was left at the end of buf because the next piece was longer
}

// take returns an empty piece with so much capacity, and how many bytes to give back for it; false when there is no room.
func (r *ring) take(n int) (piece []byte, bytes int, ok bool) {
	if r.outBytes == 0 {
		r.end = 0
	}
	at, bytes := r.end, n
	if left := len(r.buf) - at; n > left {
		at, bytes = 0, left+n
	}
	if r.outBytes+bytes > len(r.buf) {
		return nil, 0, false
	}
	r.end = at + n
	r.outBytes += bytes
	return r.buf[at:at:r.end], bytes, true
}

func (r *ring) give(bytes int) { r.outBytes -= bytes }
