package linetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/toxics"
)

// Fault is something that a line does to its connections: a toxic of toxiproxy.
type Fault struct {
	kind       string
	attributes map[string]int64
	share      float64 // of the connections that have it
	streams    []string
}

var (
	both    = []string{"upstream", "downstream"}
	answers = []string{"downstream"}
)

// Latency lets each direction take so long.
func Latency(oneWay time.Duration) Fault {
	return Fault{"latency", map[string]int64{"latency": oneWay.Milliseconds()}, 1, both}
}

// Bandwidth lets so much through each connection and direction, at least 1024.
func Bandwidth(bytesPerSecond int64) Fault {
	return Fault{"bandwidth", map[string]int64{"rate": bytesPerSecond / 1024}, 1, both}
}

// Truncate ends a share of the connections when so many bytes of answers have passed.
func Truncate(answerBytes int64, share float64) Fault {
	return Fault{"limit_data", map[string]int64{"bytes": answerBytes}, share, answers}
}

// Reset ends a share of the connections so long after the first byte of an answer, which does not arrive.
func Reset(after time.Duration, share float64) Fault {
	return Fault{"reset_peer", map[string]int64{"timeout": after.Milliseconds()}, share, answers}
}

// SlowClose lets the end of a connection arrive so much later.
func SlowClose(delay time.Duration) Fault {
	return Fault{"slow_close", map[string]int64{"delay": delay.Milliseconds()}, 1, both}
}

// resets lets every connection end with a reset: toxiproxy sees to that where this toxic is, also when it
// does nothing.
var resets = Fault{"reset_peer", nil, 0, both}

// equip gives a proxy that has not been started its toxics, each between two gates.
func (l *Line) equip(p *toxiproxy.Proxy, more []Fault) error {
	gates := Fault{gateType, nil, 1, both}
	all := []Fault{gates}
	for _, f := range slices.Concat(l.faults, more) {
		all = append(all, f, gates)
	}
	for i, f := range all {
		for _, stream := range f.streams {
			content, err := json.Marshal(map[string]any{
				"name": fmt.Sprint(i, stream), "type": f.kind, "stream": stream, "toxicity": f.share, "attributes": f.attributes,
			})
			if err != nil {
				return err
			}
			w, err := p.Toxics.AddToxicJson(bytes.NewReader(content))
			if err != nil {
				return fmt.Errorf("toxic %s: %w", content, err)
			}
			if g, ok := w.Toxic.(*gate); ok {
				g.line, g.counts = l, i == 0 && stream == "upstream"
			}
		}
	}
	return nil
}

const gateType = "gate"

// gate stands at both ends of each direction of a connection and between its toxics. It stops it when the line is held,
// and whoever sends to it or for it never waits for one who has left.
type gate struct {
	line   *Line
	counts bool // one gate of each connection does
}

// NewState is called when a connection begins, and Pipe follows.
func (g *gate) NewState() any {
	g.line.gates.Add(1)
	if g.counts {
		g.line.open.Add(1)
	}
	return g.line.held.get()
}

// Pipe implements toxics.Toxic.
func (g *gate) Pipe(stub *toxics.ToxicStub) {
	defer g.line.gates.Done()
	if g.counts {
		defer g.line.open.Add(-1)
	}
	g.pass(stub, stub.State.(<-chan struct{}))
	for range stub.Input {
	}
	stub.Close()
}

// pass carries until there is nothing more, or nothing may come through any more.
func (g *gate) pass(stub *toxics.ToxicStub, held <-chan struct{}) {
	for {
		select {
		case <-held:
			return
		case c := <-stub.Input:
			if c == nil {
				return
			}
			select {
			case stub.Output <- c:
			case <-held:
				return
			case <-g.line.done:
				return
			}
		}
	}
}
