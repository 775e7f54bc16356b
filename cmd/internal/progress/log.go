package progress

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
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

// handler writes a record as "warning: message: key value, key value".
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
	var details []string
	for _, a := range attrs {
		switch a.Key {
		case "error", "reason": // sentences that need no name
			details = append(details, a.Value.String())
		default:
			details = append(details, fmt.Sprintf("%s %v", a.Key, a.Value))
		}
	}
	line := strings.ToLower(r.Level.String()) + ": " + r.Message
	if r.Level == slog.LevelWarn {
		line = "warning: " + r.Message
	}
	if len(details) > 0 {
		line += ": " + strings.Join(details, ", ")
	}
	h.p.Warn("%s", line)
	return nil
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{p: h.p, level: h.level, attrs: append(slices.Clone(h.attrs), attrs...)}
}

// WithGroup implements slog.Handler. Groups are of no use to people and are left out.
func (h *handler) WithGroup(string) slog.Handler { return h }
