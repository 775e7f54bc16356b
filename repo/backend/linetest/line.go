// Package linetest puts a line with faults between a test and a server: a toxiproxy in this process.
//
// Two things toxiproxy (2.5) does not do, and gates, toxics of our own, do for it: a link whose receiver has gone
// leaves tasks behind that wait to send, and connections cannot fall silent while new ones work. Its
// toxics are never changed while there is traffic, since that may block for ever: a line that is cut goes on
// as a new proxy at the same address.
package linetest

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/rs/zerolog"
)

// Line carries TCP connections to a server until its test ends.
type Line struct {
	Addr string // 127.0.0.1:port

	t      testing.TB
	server *toxiproxy.ApiServer
	to     string
	faults []Fault
	done   chan struct{}  // closed at the end: nobody waits to send any more
	cutter sync.WaitGroup // CutEvery
	gates  sync.WaitGroup
	open   atomic.Int64 // connections

	turn  sync.Mutex // guards the rest; not taken by gates, for which stopping a proxy waits
	proxy *toxiproxy.Proxy
	cuts  int

	held held
}

// held is what connections look at that may fall silent.
type held struct {
	mu  sync.Mutex // guards now; a leaf in the order of locks
	now chan struct{}
}

func (h *held) get() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *held) hold() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.now)
	h.now = make(chan struct{})
}

var register = sync.OnceFunc(func() { toxics.Register(gateType, new(gate)) })

// New starts a line to a server. With no faults it only carries.
func New(t testing.TB, to string, faults ...Fault) *Line {
	t.Helper()
	register()
	l := &Line{
		Addr: "127.0.0.1:0", t: t, to: to, faults: faults, done: make(chan struct{}),
		server: toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()),
		held:   held{now: make(chan struct{})},
	}
	l.Resume()
	if l.proxy == nil {
		t.FailNow()
	}
	l.Addr = l.proxy.Listen
	t.Cleanup(func() {
		close(l.done)
		l.cutter.Wait()
		l.Stop()
		l.gates.Wait()
	})
	return l
}

// CutEvery breaks all connections again and again until the test ends, after pauses around the given one. In turn the
// connections that are made then end as they are, with a reset, which also throws away what is on its way, or, some of
// them, before: in the middle of an answer, of which the client hears late. Each fifth pause is four times as long, so
// that on a busy machine too a handshake comes through.
func (l *Line) CutEvery(every time.Duration) {
	l.cutter.Go(func() {
		for round := 0; ; round++ {
			pause := every/2 + rand.N(every)
			if round%5 == 4 {
				pause *= 4
			}
			select {
			case <-l.done:
				return
			case <-time.After(pause):
			}
			switch round % 3 {
			case 0:
				l.Cut(resets)
			case 1:
				l.Cut(Truncate(rand.Int64N(200<<10), 0.3), SlowClose(200*time.Millisecond))
			case 2:
				l.Cut()
			}
		}
	})
}

// Cut breaks all connections. Those that are made from now on have more faults, until the next cut.
func (l *Line) Cut(more ...Fault) {
	l.turn.Lock()
	defer l.turn.Unlock()
	l.stop()
	l.start(more...)
}

// Cuts returns how many connections have been broken.
func (l *Line) Cuts() int {
	l.turn.Lock()
	defer l.turn.Unlock()
	return l.cuts
}

// Hold leaves the connections that there are open, but nothing comes through them any more: what a router
// does that has forgotten them. New ones work.
func (l *Line) Hold() { l.held.hold() }

// Stop breaks all connections, and there are no new ones until Resume.
func (l *Line) Stop() {
	l.turn.Lock()
	defer l.turn.Unlock()
	l.stop()
}

// Resume ends what Stop began.
func (l *Line) Resume() {
	l.turn.Lock()
	defer l.turn.Unlock()
	l.start()
}

// stop and start are called in turn.
func (l *Line) stop() {
	if l.proxy == nil {
		return
	}
	l.cuts += int(l.open.Load())
	l.proxy.Stop()
	l.proxy = nil
}

// portTime is how long somebody else may have the port who took it while nobody listened.
const portTime = 10 * time.Second

func (l *Line) start(more ...Fault) {
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		p := toxiproxy.NewProxy(l.server, "line", l.Addr, l.to)
		err := l.equip(p, more)
		if err == nil {
			err = p.Start()
		}
		if err == nil {
			l.proxy = p
			return
		}
		if time.Since(began) > portTime {
			l.t.Errorf("line to %s: %v", l.to, err)
			return
		}
	}
}
