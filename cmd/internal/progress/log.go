package progress

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Logger returns the logger for the libraries below: warnings and errors go to standard error
// as lines for people, notes too when details are wanted.
func (p *Printer) Logger() *slog.Logger {
	level := slog.LevelWarn
	switch {
	case p.o.Verbose >= 3:
		level = slog.LevelDebug
	case p.o.Verbose >= 1:
		level = slog.LevelInfo
	}
	return slog.New(&handler{p: p, level: level})
}

// StampLog makes every line of the loggers begin with the time: for programs that run for days. Call
// it before there is anything to log.
func (p *Printer) StampLog() { p.stamped = true }

// stampForm is the local time, as a person reads it.
const stampForm = "2006-01-02 15:04:05 "

// handler writes a record as "Warning: message: path, key value, key value, reason".
type handler struct {
	p     *Printer
	level slog.Level
	attrs []slog.Attr
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

// Handle implements slog.Handler.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	attrs := slices.Clone(h.attrs)
	r.Attrs(func(a slog.Attr) bool { attrs = append(attrs, a); return true })
	var first, details, last []string
	for _, a := range attrs {
		switch value := Printable(a.Value.String()); a.Key {
		case "path": // what it is about
			first = append(first, value)
		case "error", "err", "reason": // sentences that need no name; joined errors are lines
			last = append(last, Printable(OneLine(a.Value.String())))
		default:
			details = append(details, a.Key+" "+value)
		}
	}
	message := Printable(r.Message) // a path may be in it
	line := strings.ToLower(r.Level.String()) + ": " + message
	if r.Level == slog.LevelWarn {
		line = Warning + message
	}
	if details = slices.Concat(first, details, last); len(details) > 0 {
		line += ": " + strings.Join(details, ", ")
	}
	if h.p.stamped && !h.p.o.JSON {
		line = r.Time.Local().Format(stampForm) + line
	}
	h.p.Warn("%s", line)
	return nil
}

// Printable quotes what would do something else on a terminal than show itself: names of files may
// hold anything, and each message is one line.
func Printable(s string) string {
	for _, r := range s {
		if r == utf8.RuneError || !strconv.IsPrint(r) {
			return strconv.Quote(s)
		}
	}
	return s
}

// OneLine joins the lines of a text: joined errors have one each. What cannot be printed, in the name of a file for example, is
// written as in Go.
func OneLine(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	s = strings.Join(lines, "; ")
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if part := s[i : i+n]; strconv.IsPrint(r) && (r != utf8.RuneError || n > 1) {
			b.WriteString(part)
		} else {
			quoted := strconv.Quote(part)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += n
	}
	return b.String()
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{p: h.p, level: h.level, attrs: append(slices.Clone(h.attrs), attrs...)}
}

// WithGroup implements slog.Handler. Groups are of no use to people and are left out.
func (h *handler) WithGroup(string) slog.Handler { return h }
