package progress

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// View is the state of a long task. Its methods are called while the task runs, so they
// must be safe for parallel use, and they must be quick.
type View interface {
	// Share returns how much is done, in the unit that tells best how long it will take;
	// total is 0 while it is not known.
	Share() (done, total uint64)
	// Rate tells speed and time left in a few words, "" while they are not known.
	Rate() string
	// Status tells what has been done.
	Status() string
	// Current lists what is being worked on, for the lines below the bar.
	Current() []string
	// Message is the status object of --json, or nil when the task has none.
	Message() any
}

// Live shows the view until stop is called: as a bar on a terminal, as JSON messages, or as
// a line every so often. stop waits until nothing more is written and may be called again.
func (p *Printer) Live(begin time.Time, v View) (stop func()) {
	if p.o.Quiet || p.o.NoLines && !p.o.Terminal && !p.o.JSON {
		return func() {}
	}
	var bar *terminalBar
	if p.o.Terminal && !p.o.JSON {
		bar = p.startBar(begin, v)
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			case <-time.After(p.interval(time.Since(begin))):
				p.show(begin, v, bar)
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(quit)
		<-done
		if bar != nil {
			bar.update(v) // the last drawing shows the end
			p.stopBar(bar)
		}
	})
}

func (p *Printer) show(begin time.Time, v View, bar *terminalBar) {
	switch {
	case bar != nil:
		bar.update(v)
	case p.o.JSON:
		if m := v.Message(); m != nil {
			p.Message(m)
		}
	default:
		line := head(begin, v) + "  " + v.Status()
		if rate := v.Rate(); rate != "" {
			line += ", " + rate
		}
		p.Line("%s", line)
	}
}

// head is the beginning of a status line: "[0:42] 13.07%".
func head(begin time.Time, v View) string {
	clock := "[" + Clock(time.Since(begin)) + "]"
	if done, total := v.Share(); total > 0 {
		return clock + " " + Percent(done, total)
	}
	return clock
}

// rateAndLeft tells the bytes per second and, once the total is known for good, the time left.
func rateAndLeft(begin time.Time, done, total uint64, final bool) string {
	elapsed := time.Since(begin)
	rate := Rate(done, elapsed)
	if left := Remaining(done, total, elapsed); left > 0 && final {
		rate += ", " + Clock(left) + " left"
	}
	return rate
}

// terminalBar is the bar while it is on the screen.
type terminalBar struct {
	screen *mpb.Progress
	bar    *mpb.Bar
}

func (p *Printer) startBar(begin time.Time, v View) *terminalBar {
	screen := mpb.New(mpb.WithOutput(p.o.Stdout), mpb.WithRefreshRate(p.interval(0)), mpb.WithAutoRefresh())
	bar := screen.New(0, mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Padding(" ").Rbound("]"),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return head(begin, v) + " " })),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return " " + v.Rate() })),
		mpb.BarExtender(mpb.BarFillerFunc(func(w io.Writer, s decor.Statistics) error {
			for _, line := range append([]string{v.Status()}, v.Current()...) {
				if _, err := fmt.Fprintln(w, fit(line, s.AvailableWidth)); err != nil {
					return err
				}
			}
			return nil
		}), false))
	p.mu.Lock()
	p.above = screen
	p.mu.Unlock()
	return &terminalBar{screen: screen, bar: bar}
}

func (b *terminalBar) update(v View) {
	done, total := v.Share()
	if total == 0 {
		done = 0 // an empty bar, for nothing is known of the whole
	}
	b.bar.SetTotal(int64(max(total, done, 1)), false)
	b.bar.SetCurrent(int64(done))
}

// stopBar takes the bar off the screen; what was written above it stays.
func (p *Printer) stopBar(b *terminalBar) {
	b.bar.Abort(true)
	b.screen.Wait()
	p.mu.Lock()
	p.above = nil
	p.mu.Unlock()
}

// fit makes a file name harmless for a terminal line: control characters are replaced, and
// what is too long is cut in the middle, because both ends of a path tell something.
func fit(s string, width int) string {
	r := []rune(strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return '?'
		}
		return c
	}, s))
	if width < 8 || len(r) <= width {
		return string(r)
	}
	keep := (width - 1) / 2
	return string(r[:keep]) + "…" + string(r[len(r)-keep:])
}
