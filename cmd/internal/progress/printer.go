// Package progress is how vitrine talks while it works: lines for people, JSON messages
// for programs, a bar when standard output is a terminal and a line now and then when it
// is not.
//
// Standard output carries results and status, standard error warnings and errors only.
// With --json every line of either is one JSON value.
package progress

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"sync"
	"time"
)

// Options configure a Printer.
type Options struct {
	Stdout, Stderr io.Writer

	Terminal      bool // Stdout is a terminal that can move the cursor
	ErrorTerminal bool // Stderr is a terminal, thought to be the same one
	JSON          bool
	Quiet         bool
	Verbose       int // 0 normal, 1 details, 2 each file

	// FPS is how often status is shown, in updates per second; 0 chooses: 10 on a
	// terminal and in JSON, and otherwise a line every ten seconds at first and
	// every ten minutes later.
	FPS float64
	// NoLines shows no status where each update is a line that stays: neither on a terminal nor in JSON.
	NoLines bool
}

// Printer writes to the two streams of the program; its methods may be called in parallel.
// While a Live display runs, lines appear above it.
type Printer struct {
	o       Options
	stamped bool // see StampLog

	mu    sync.Mutex // guards both streams and above
	above io.Writer  // set while a bar owns the terminal
}

// New returns a Printer.
func New(o Options) *Printer { return &Printer{o: o} }

// JSONMode reports whether standard output is for programs.
func (p *Printer) JSONMode() bool { return p.o.JSON }

// Quiet reports whether only results and errors are wanted.
func (p *Printer) Quiet() bool { return p.o.Quiet }

// Terminal reports whether a person watches standard output.
func (p *Printer) Terminal() bool { return p.o.Terminal }

// Verbose returns how many details are wanted: 0, 1 or 2.
func (p *Printer) Verbose() int { return p.o.Verbose }

// Line tells people something in passing; programs and the quiet do not get it.
func (p *Printer) Line(format string, args ...any) {
	if !p.o.JSON && !p.o.Quiet {
		p.write(p.o.Stdout, true, fmt.Appendf(nil, format+"\n", args...))
	}
}

// Result writes a line that was asked for, so that the quiet get it too.
func (p *Printer) Result(format string, args ...any) {
	p.write(p.o.Stdout, true, fmt.Appendf(nil, format+"\n", args...))
}

// Detail is Line for those who asked for at least that level of details.
func (p *Printer) Detail(level int, format string, args ...any) {
	if p.o.Verbose >= level {
		p.Line(format, args...)
	}
}

// Warning begins each line that warns. It is restic's spelling, which scripts look for.
const Warning = "Warning: "

// warning is a line of Warn under --json.
type warning struct {
	MessageType string `json:"message_type"` // warning
	Message     string `json:"message"`
}

// Warn tells something on standard error, whatever the mode.
func (p *Printer) Warn(format string, args ...any) {
	if p.o.JSON {
		p.ErrorMessage(warning{"warning", fmt.Sprintf(format, args...)})
		return
	}
	p.write(p.o.Stderr, p.o.ErrorTerminal, fmt.Appendf(nil, format+"\n", args...))
}

// Message writes one JSON object to standard output.
func (p *Printer) Message(v any) {
	line, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("progress: message %T cannot be JSON: %v", v, err))
	}
	p.write(p.o.Stdout, true, append(line, '\n'))
}

// ErrorMessage writes one JSON object to standard error.
func (p *Printer) ErrorMessage(v any) {
	line, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("progress: message %T cannot be JSON: %v", v, err))
	}
	p.write(p.o.Stderr, p.o.ErrorTerminal, append(line, '\n'))
}

// write sends the bytes in one piece, above the bar when onScreen says that w is the
// terminal on which the bar is. Errors are dropped on purpose: there is nobody left to
// tell, and a closed pipe must not fail a backup.
func (p *Printer) write(w io.Writer, onScreen bool, line []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if onScreen && p.above != nil {
		if _, err := p.above.Write(line); err == nil {
			return
		}
	}
	w.Write(line)
}

// Silence is how long nobody is shown what a task that begins has done, or is to do: on a terminal and in JSON that is no time.
func (p *Printer) Silence() time.Duration {
	if p.o.JSON || p.o.Terminal || p.o.Verbose > 0 {
		return 0
	}
	if p.o.NoLines {
		return math.MaxInt64
	}
	return p.interval(0)
}

// interval is the time to the next update of a status that has been shown for so long. Where
// every update is a line that stays, in a log or in the mail of cron, they become rarer.
func (p *Printer) interval(shown time.Duration) time.Duration {
	switch {
	case p.o.FPS > 0:
		return max(time.Duration(float64(time.Second)/p.o.FPS), time.Second/60)
	case p.o.JSON || p.o.Terminal:
		return time.Second / 10
	case shown < time.Minute:
		return 10 * time.Second
	case shown < 10*time.Minute:
		return time.Minute
	}
	return 10 * time.Minute
}
