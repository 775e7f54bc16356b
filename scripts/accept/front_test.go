package accept

import (
	"net"
	"sync"
	"testing"
	"time"
)

// front is what stands before the servers of a cluster: it gives each connection to the next server that takes it,
// and ends it when that server does.
type front struct {
	addr string // where it listens

	servers  []string
	listener net.Listener
	tasks    sync.WaitGroup

	mu    sync.Mutex // guards all below
	next  int
	conns map[*frontConn]bool
}

// frontConn is a connection of a client and the one to its server.
type frontConn struct {
	near, far *net.TCPConn
	server    int
	asked     bool // the client spoke last, so a request is open
}

// newFront starts a balancer on an address of this machine. It ends with the test.
func newFront(t *testing.T, on string, servers ...string) *front {
	t.Helper()
	l, err := net.Listen("tcp", on+":0")
	if err != nil {
		t.Fatal(err)
	}
	p := &front{addr: l.Addr().String(), servers: servers, listener: l, conns: map[*frontConn]bool{}}
	p.tasks.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for c := range p.conns {
			c.near.Close()
			c.far.Close()
		}
		p.servers = nil // a connection that is being made finds none
		p.mu.Unlock()
		p.tasks.Wait()
	})
	return p
}

func (p *front) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.tasks.Go(func() { p.serve(near.(*net.TCPConn)) })
	}
}

// serve carries one connection to its end.
func (p *front) serve(near *net.TCPConn) {
	defer near.Close()
	c := p.connect(near)
	if c == nil {
		return
	}
	var back sync.WaitGroup
	back.Go(func() { p.carry(c, c.near, c.far, false) })
	p.carry(c, c.far, c.near, true)
	back.Wait()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
}

// connect finds a server that takes the connection. It returns nil when none does.
func (p *front) connect(near *net.TCPConn) *frontConn {
	p.mu.Lock()
	servers, first := p.servers, p.next
	p.next++
	p.mu.Unlock()
	for i := range servers {
		server := (first + i) % len(servers)
		far, err := net.DialTimeout("tcp", servers[server], time.Second)
		if err != nil {
			continue
		}
		c := &frontConn{near: near, far: far.(*net.TCPConn), server: server}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.servers == nil {
			far.Close()
			return nil
		}
		p.conns[c] = true
		return c
	}
	return nil
}

// carry copies one direction until it ends, and closes both then.
func (p *front) carry(c *frontConn, to, from *net.TCPConn, asks bool) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			p.mu.Lock()
			c.asked = asks
			p.mu.Unlock()
			_, werr := to.Write(buffer[:n])
			if err == nil {
				err = werr
			}
		}
		if err != nil {
			break
		}
	}
	to.Close()
	from.Close()
}

// busiest waits for a server with open requests that is not the given one, and returns it and how many it has. Of
// several it returns that with the most.
func (p *front) busiest(t *testing.T, not int) (server, requests int) {
	t.Helper()
	for start := time.Now(); time.Since(start) < 30*time.Second; time.Sleep(time.Millisecond) {
		open := make([]int, len(p.servers))
		p.mu.Lock()
		for c := range p.conns {
			if c.asked {
				open[c.server]++
			}
		}
		p.mu.Unlock()
		for i, n := range open {
			if n > requests && i != not {
				server, requests = i, n
			}
		}
		if requests > 0 {
			return server, requests
		}
	}
	t.Error("no server has a request")
	return 0, 0
}
