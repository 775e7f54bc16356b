package progress

import (
	"fmt"
	"sync/atomic"
	"time"
)

// Counter shows how much of a known number of things is done; it is a View. Add may be called in parallel.
type Counter struct {
	p     *Printer
	unit  string
	total uint64
	done  atomic.Uint64
	begin time.Time
	stop  func()
}

// NewCounter begins to show that of total things none is done; unit says what they are.
func NewCounter(p *Printer, unit string, total int) *Counter {
	c := &Counter{p: p, unit: unit, total: uint64(total), begin: time.Now()}
	c.stop = p.Live(c.begin, c)
	return c
}

// Add counts n more things.
func (c *Counter) Add(n int) { c.done.Add(uint64(n)) }

// Finish ends the display and leaves a line that says how much was done.
func (c *Counter) Finish() {
	c.stop()
	c.p.Line("%s  %s\n", head(c.begin, c), c.Status())
}

// Share implements View.
func (c *Counter) Share() (done, total uint64) { return c.done.Load(), c.total }

// Rate implements View.
func (c *Counter) Rate() string {
	if left := Remaining(c.done.Load(), c.total, time.Since(c.begin)); left > 0 {
		return Clock(left) + " left"
	}
	return ""
}

// Status implements View.
func (c *Counter) Status() string { return fmt.Sprintf("%d / %d %s", c.done.Load(), c.total, c.unit) }

// Current implements View.
func (c *Counter) Current() []string { return nil }

// Message implements View: restic counts so for people only.
func (c *Counter) Message() any { return nil }
