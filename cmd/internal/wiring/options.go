package wiring

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/backend/slow"
	"vitrine/repo/source"
)

// StoreOptions say how a store is reached. The zero value is the store as it is.
type StoreOptions struct {
	Slow  slow.Limits
	Meter *Meter       // counts the requests; nil: nobody counts
	Log   *slog.Logger // nil discards
}

// extended are the keys of -o, each with what its value does.
var extended = map[string]func(o *StoreOptions, value string) error{
	"slow.latency": func(o *StoreOptions, value string) error {
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 {
			return fmt.Errorf("%q is no duration such as 50ms", value)
		}
		o.Slow.Latency = d
		return nil
	},
	"slow.bandwidth": func(o *StoreOptions, value string) error {
		n, err := source.ParseSize(value)
		if err != nil || n == 0 {
			return fmt.Errorf("%q is no number of bytes a second such as 100M", value)
		}
		o.Slow.BytesPerSecond = n
		return nil
	},
}

// ParseStoreOptions reads extended options of the form key=value. Of a key that comes twice the last counts.
func ParseStoreOptions(options []string) (StoreOptions, error) {
	var o StoreOptions
	for _, option := range options {
		key, value, ok := strings.Cut(option, "=")
		if !ok || key == "" {
			return o, fmt.Errorf("--option %q: write it as key=value", option)
		}
		set, ok := extended[key]
		if !ok {
			return o, fmt.Errorf("--option %q: there is no such key; there are %s", option, strings.Join(slices.Sorted(maps.Keys(extended)), ", "))
		}
		if err := set(&o, value); err != nil {
			return o, fmt.Errorf("--option %s: %w", key, err)
		}
	}
	return o, nil
}

// wrap puts the wrappers around a store.
//
// They stand in this order, from the verb to the disk: the meter, which so sees how long callers
// wait; the wait of a store far away, when it is asked for; nothing else yet, because a local disk
// needs neither retries nor limits.
func (o StoreOptions) wrap(be backend.Backend) backend.Backend {
	be = o.wrapSlow(be)
	if o.Meter != nil {
		be = metered{be, o.Meter}
	}
	return be
}

func (o StoreOptions) wrapSlow(be backend.Backend) backend.Backend {
	if o.Slow == (slow.Limits{}) {
		return be
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &counted{slow.New(be, o.Slow), log}
}

// counted says at the end what was asked of the slow store.
type counted struct {
	*slow.Backend
	log *slog.Logger
}

// Close implements backend.Backend.
func (c *counted) Close() error {
	n := c.Counts()
	c.log.Info("the slow store was used", "requests", n.Requests, "bytes", n.Bytes)
	return c.Backend.Close()
}
