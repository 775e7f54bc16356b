// Package line is a line to a server that is as long and as thin as one wants: a round trip takes longer, all
// connections together get so many bytes a second in each direction, and what passes is counted. It is
// for measuring programs as they are, so everything happens in this process and nobody has to be root.
//
// A piece of up to 64 KiB that a connection brings waits for its turn, like a packet at the end of
// the line: connections share the line evenly, and one that has much to send delays another one by
// a piece and no more. When its last byte has left, the piece travels for half a round trip, while
// others follow. Making a connection takes a round trip, as TCP does. What the line does not have is
// TCP's slow start, nor losses, for both programs that are compared have the same kernel below them.
//
// The processes that are measured run on the same processors as the line, which takes about a tenth of
// one at 100 MB/s (TestRate prints it). When it did not get a processor in time, it makes up for
// the last lateness, so that its rate holds.
package line

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	pieceBytes = 64 << 10
	// lateness is for how long past the line may be filled afterwards: timers of an idle program are late by a
	// millisecond, and on a busy machine by some.
	lateness = 5 * time.Millisecond
	// pipeBytes is how much of one direction of a connection may be on its way, or wait for a
	// receiver that does not read.
	pipeBytes  = 8 << 20
	pipePieces = 4096
)

// Line carries TCP connections to a server.
type Line struct {
	listener net.Listener
	to       string
	oneWay   time.Duration
	up, down gate
	tasks    sync.WaitGroup

	isPoll func(head []byte) bool // or nil

	connections, requests, polls atomic.Int64

	mu     sync.Mutex // guards the rest
	conns  map[net.Conn]bool
	closed bool
}

// Counts is what has passed.
type Counts struct {
	Connections int64
	// Requests are how often a client began to send after the server had sent something: with
	// HTTP 1 the requests. Of protocols that do not wait for an answer they tell nothing.
	Requests           int64
	Polls              int64 // requests that are not among Requests, because nobody who is measured made them
	UpBytes, DownBytes int64 // of the connections' content
}

// Since returns what has passed after before.
func (c Counts) Since(before Counts) Counts {
	return Counts{
		c.Connections - before.Connections, c.Requests - before.Requests, c.Polls - before.Polls,
		c.UpBytes - before.UpBytes, c.DownBytes - before.DownBytes,
	}
}

// New makes a line to the server at the address to, until Close. isPoll, unless it is nil, tells from how a
// request begins whether it is one of those that a program makes now and then whatever it does.
func New(to string, roundTrip time.Duration, bytesPerSecond int, isPoll func(head []byte) bool) (*Line, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("line to %s: %w", to, err)
	}
	l := &Line{listener: listener, to: to, oneWay: roundTrip / 2, isPoll: isPoll, conns: map[net.Conn]bool{}}
	l.up.perByte = float64(time.Second) / float64(bytesPerSecond)
	l.down.perByte = l.up.perByte
	l.tasks.Go(l.accept)
	return l, nil
}

// Addr is where clients connect to, 127.0.0.1:port.
func (l *Line) Addr() string { return l.listener.Addr().String() }

// Counts returns what has passed so far, as it left the sender.
func (l *Line) Counts() Counts {
	return Counts{l.connections.Load(), l.requests.Load(), l.polls.Load(), l.up.bytes.Load(), l.down.bytes.Load()}
}

// Close breaks all connections and returns when nothing of the line is left.
func (l *Line) Close() error {
	err := l.listener.Close()
	l.mu.Lock()
	l.closed = true
	for c := range l.conns {
		c.Close()
	}
	l.mu.Unlock()
	l.tasks.Wait()
	return err
}

func (l *Line) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return // closed
		}
		l.tasks.Go(func() { l.connect(client) })
	}
}

// connect carries a connection until its end.
func (l *Line) connect(client net.Conn) {
	defer client.Close()
	time.Sleep(2 * l.oneWay) // until the client may send
	server, err := net.Dial("tcp", l.to)
	if err != nil {
		return // the client sees a connection that ends
	}
	defer server.Close()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.conns[client], l.conns[server] = true, true
	l.mu.Unlock()
	l.connections.Add(1)

	var answered atomic.Bool // whether what the client sends next is a new request
	answered.Store(true)
	var both sync.WaitGroup
	both.Go(func() {
		l.carry(&l.up, server, client, func(content []byte) {
			switch {
			case !answered.Load() || !answered.Swap(false):
			case l.isPoll != nil && l.isPoll(content):
				l.polls.Add(1)
			default:
				l.requests.Add(1)
			}
		})
	})
	both.Go(func() { l.carry(&l.down, client, server, func([]byte) { answered.Store(true) }) })
	both.Wait()
	l.mu.Lock()
	delete(l.conns, client)
	delete(l.conns, server)
	l.mu.Unlock()
}

// piece is something on its way.
type piece struct {
	content *[]byte
	due     time.Time // at the other end
}

var pieces = sync.Pool{New: func() any { p := make([]byte, pieceBytes); return &p }}

// carry copies one direction of a connection; seen is called for each piece before it is sent on.
func (l *Line) carry(g *gate, to, from net.Conn, seen func([]byte)) {
	var (
		pipe = make(chan piece, pipePieces)
		room = semaphore.NewWeighted(pipeBytes)
		read sync.WaitGroup
	)
	read.Go(func() {
		defer close(pipe)
		for {
			buf := pieces.Get().(*[]byte)
			n, err := from.Read((*buf)[:pieceBytes])
			if n > 0 {
				*buf = (*buf)[:n]
				seen(*buf)
				room.Acquire(context.Background(), int64(n)) // never fails; carry gives all room back
				pipe <- piece{buf, g.pass(n).Add(l.oneWay)}
			}
			if err != nil {
				return
			}
		}
	})
	var failed error
	for p := range pipe { // to the end, so that nobody waits to send
		n := len(*p.content)
		if failed == nil {
			time.Sleep(time.Until(p.due))
			if _, failed = to.Write(*p.content); failed != nil {
				from.Close() // a broken connection is broken on both sides
			}
		}
		room.Release(int64(n))
		pieces.Put(p.content)
	}
	read.Wait()
	if half, ok := to.(*net.TCPConn); ok && failed == nil {
		if err := half.CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) {
			from.Close()
		}
	}
}

// gate is one direction of the line.
type gate struct {
	perByte float64 // nanoseconds
	bytes   atomic.Int64

	mu   sync.Mutex // guards the rest
	free time.Time  // when all that was sent so far has left
}

// pass sends n bytes and returns when the last of them left, which is not before they came.
func (g *gate) pass(n int) time.Time {
	came := time.Now()
	g.mu.Lock()
	if earliest := came.Add(-lateness); g.free.Before(earliest) {
		g.free = earliest
	}
	g.free = g.free.Add(time.Duration(float64(n) * g.perByte))
	left := g.free
	g.mu.Unlock()
	g.bytes.Add(int64(n))
	if left.Before(came) {
		return came
	}
	time.Sleep(time.Until(left))
	return left
}
