package sshdtest

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// relayBytes is how much a relay holds of one direction of a connection.
const relayBytes = 16 << 20

// Relay carries TCP connections to another address, with a delay. It ends with the test.
type Relay struct {
	Port string // on 127.0.0.1

	listener net.Listener
	to       string
	delay    time.Duration // of each direction
	tasks    sync.WaitGroup

	mu     sync.Mutex // guards all below
	conns  map[net.Conn]bool
	made   int
	closed bool
}

// NewRelay starts a relay to an address. A round trip takes the given time longer through it.
func NewRelay(t testing.TB, to string, roundTrip time.Duration) *Relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	r := &Relay{Port: port, listener: l, to: to, delay: roundTrip / 2, conns: map[net.Conn]bool{}}
	r.tasks.Go(r.accept)
	t.Cleanup(func() {
		l.Close()
		r.mu.Lock()
		r.closed = true
		r.mu.Unlock()
		r.Break()
		r.tasks.Wait()
	})
	return r
}

// Break breaks all connections that there are now.
func (r *Relay) Break() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		c.Close()
	}
}

// Made returns how many connections there have been.
func (r *Relay) Made() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.made
}

func (r *Relay) accept() {
	for {
		near, err := r.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", r.to)
		if err != nil {
			near.Close()
			continue
		}
		r.mu.Lock()
		if r.closed {
			near.Close()
			far.Close()
		}
		r.conns[near], r.conns[far] = true, true
		r.made++
		r.mu.Unlock()
		r.tasks.Go(func() { r.carry(near, far) })
		r.tasks.Go(func() { r.carry(far, near) })
	}
}

// carry copies one direction; each piece leaves a delay after it came.
func (r *Relay) carry(to, from net.Conn) {
	type piece struct {
		content []byte
		due     time.Time
	}
	pieces := make(chan piece, relayBytes/(64<<10))
	r.tasks.Go(func() {
		defer close(pieces)
		for {
			p := make([]byte, 64<<10)
			n, err := from.Read(p)
			if n > 0 {
				pieces <- piece{p[:n], time.Now().Add(r.delay)}
			}
			if err != nil {
				return
			}
		}
	})
	var failed error
	for p := range pieces { // to the end, so that nobody waits to send
		if failed == nil {
			time.Sleep(time.Until(p.due))
			_, failed = to.Write(p.content)
		}
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok && failed == nil {
		half.CloseWrite()
	} else if failed != nil && failed != io.EOF {
		to.Close()
		from.Close()
	}
	r.mu.Lock()
	delete(r.conns, from)
	r.mu.Unlock()
}
