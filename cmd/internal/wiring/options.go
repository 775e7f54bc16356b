package wiring

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/backend/limit"
	"vitrine/repo/backend/retry"
	"vitrine/repo/backend/slow"
	"vitrine/repo/backend/transport"
	"vitrine/repo/source"
)

// TransportOptions say how stores are reached over HTTP.
type TransportOptions = transport.Options

// StoreOptions say how a store is reached. The zero value is the store as it is.
type StoreOptions struct {
	Slow  slow.Limits
	Meter *Meter // counts the requests; nil: nobody counts

	Transport TransportOptions         // of stores that are reached over HTTP
	Env       func(name string) string // environment variables, "" when not set; nil: none are

	UploadBytesPerSecond, DownloadBytesPerSecond int64 // 0: no limit

	// RetryFor is how long a call to a remote store is made again when it fails; 0: retry.DefaultTotal.
	RetryFor time.Duration
	// RetryStrictly ends the last try when that time is over, see retry.Options.
	RetryStrictly bool

	Log *slog.Logger // nil discards

	Extended map[string]map[string]string // options of each scheme, which ParseStoreOptions has checked
}

// general are the keys of -o that concern every store, or a local one, each with what its value does.
var general = map[string]func(o *StoreOptions, value string) error{
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
	"local.connections": func(_ *StoreOptions, value string) error {
		if n, err := strconv.Atoi(value); err != nil || n < 1 {
			return fmt.Errorf("%q is no number of connections", value)
		}
		return nil
	},
	"local.layout": func(_ *StoreOptions, value string) error {
		if value != "default" {
			return fmt.Errorf("%q: there is only the layout called default", value)
		}
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
		if set, ok := general[key]; ok {
			if err := set(&o, value); err != nil {
				return o, fmt.Errorf("--option %s: %w", key, err)
			}
			continue
		}
		name, key, _ := strings.Cut(key, ".")
		if _, ok := remotes[name]; !ok {
			return o, fmt.Errorf("--option %q: there is no such key; there are %s, and those of %s", option,
				strings.Join(slices.Sorted(maps.Keys(general)), ", "), strings.Join(slices.Sorted(maps.Keys(remotes)), ", "))
		}
		if o.Extended == nil {
			o.Extended = map[string]map[string]string{}
		}
		if o.Extended[name] == nil {
			o.Extended[name] = map[string]string{}
		}
		o.Extended[name][key] = value
	}
	for name, options := range o.Extended {
		if err := remotes[name].check(options); err != nil {
			return o, fmt.Errorf("--option: %w", err)
		}
	}
	return o, nil
}

// wrap puts the wrappers around a store.
//
// They stand in this order, from the verb to the store:
//
//	cache   files of remote stores on the local disk; OpenRepository adds it (wrapCache), for it needs the
//	        repository's ID, and repo reads config and keys from what is below
//	meter   sees how long callers wait, retries and all
//	retry   of remote stores: what fails below is made again, also what a limit has already let through
//	limit   where connections do not carry the limits themselves (store.go, onTheLine)
//	slow    the wait of a store far away, when it is asked for: it plays the store
//	store   as store.go opens it
//
// A local disk has no retries: its errors stay.
func (o StoreOptions) wrap(ctx context.Context, be backend.Backend, scheme string) backend.Backend {
	be = o.wrapSlow(be)
	if (o.UploadBytesPerSecond > 0 || o.DownloadBytesPerSecond > 0) && !onTheLine[scheme] {
		be = o.limiter(ctx).Backend(be)
	}
	if scheme != localScheme {
		be = retry.New(be, o.retries())
	}
	if o.Meter != nil {
		be = metered{be, o.Meter}
	}
	return be
}

func (o StoreOptions) retries() retry.Options {
	r := retry.Options{Total: o.RetryFor, Strict: o.RetryStrictly, Log: o.log()}
	if o.Meter != nil {
		r.Waiting = &o.Meter.waiting
	}
	return r
}

// limiter makes the limits, which end with ctx: then the run is over, and somebody waits for what is tidied up.
func (o StoreOptions) limiter(ctx context.Context) *limit.Limiter {
	l := limit.New(o.UploadBytesPerSecond, o.DownloadBytesPerSecond)
	context.AfterFunc(ctx, l.Lift)
	return l
}

func (o StoreOptions) wrapSlow(be backend.Backend) backend.Backend {
	if o.Slow == (slow.Limits{}) {
		return be
	}
	return &counted{slow.New(be, o.Slow), o.log()}
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
