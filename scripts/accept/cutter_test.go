package accept

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// cutter is a line to a server that breaks all the time: a proxy that ends all of its connections
// together after pauses drawn from cutEvery, about every second one with a reset, and each now and then alone.
// What it carries takes the time that lineBytesPerSecond says, so that the cuts fall into requests.
type cutter struct {
	addr string // where it listens

	to       string
	listener net.Listener
	every    time.Duration
	tasks    sync.WaitGroup
	done     chan struct{}

	mu    sync.Mutex // guards all below
	conns map[*net.TCPConn]bool
	cuts  int // connections that were cut
}

const lineBytesPerSecond = 64 << 20

// newCutter starts a proxy to a server, which ends with the test. With 0 it cuts nothing.
func newCutter(t *testing.T, to string, every time.Duration) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &cutter{addr: l.Addr().String(), to: to, listener: l, every: every, done: make(chan struct{}), conns: map[*net.TCPConn]bool{}}
	p.tasks.Go(p.accept)
	if every > 0 {
		p.tasks.Go(p.cut)
	}
	t.Cleanup(func() {
		close(p.done)
		l.Close()
		p.end(func() bool { return true })
		p.tasks.Wait()
	})
	return p
}

func (p *cutter) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.to)
		if err != nil {
			near.Close()
			continue
		}
		a, b := near.(*net.TCPConn), far.(*net.TCPConn)
		p.mu.Lock()
		p.conns[a], p.conns[b] = true, true
		p.mu.Unlock()
		p.tasks.Go(func() { p.carry(a, b) })
		p.tasks.Go(func() { p.carry(b, a) })
	}
}

// hold leaves all connections that there are open, but nothing comes through any more, until the test ends:
// what a router does that has forgotten them.
func (p *cutter) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.conns)
}

// waits blocks a connection that is held.
func (p *cutter) waits(c *net.TCPConn) {
	p.mu.Lock()
	held := !p.conns[c]
	p.mu.Unlock()
	if held {
		<-p.done
	}
}

// carry copies one direction until it ends, and closes both then.
func (p *cutter) carry(to, from *net.TCPConn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		p.waits(from)
		if n > 0 {
			time.Sleep(time.Duration(n) * time.Second / lineBytesPerSecond)
			_, werr := to.Write(buffer[:n])
			if err == nil {
				err = werr
			}
		}
		if err != nil {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range []*net.TCPConn{to, from} {
		c.Close()
		delete(p.conns, c)
	}
}

// cut breaks connections until the end of the test.
func (p *cutter) cut() {
	for round := 0; ; round++ {
		select {
		case <-p.done:
			return
		case <-time.After(p.every/2 + rand.N(p.every)):
		}
		if round%3 == 2 {
			p.end(func() bool { return rand.IntN(4) == 0 })
		} else {
			p.end(func() bool { return true })
		}
	}
}

// end cuts the connections that which chooses.
func (p *cutter) end(which func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if !which() {
			continue
		}
		if rand.IntN(2) == 0 {
			c.SetLinger(0) // a reset, which also throws away what is on its way
		}
		c.Close()
		p.cuts++
	}
}

func (p *cutter) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cuts
}
