// Package rclone reaches every store that rclone knows: it runs `rclone serve restic --stdio` and
// speaks the REST protocol (package rest) over HTTP/2 on the child's standard input and output. No port
// is opened, and the child ends with the backend.
package rclone

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/backend/rest"
	"vitrine/repo/backend/transport"
)

// Backend is a repository behind an rclone of its own.
type Backend struct {
	backend.Backend // package rest's
	location        string
	child           *child
	conn            *http.ClientConn
}

var _ backend.Backend = (*Backend)(nil)

// Open runs rclone and waits for its first answer. A program that is missing or ends is an error
// that says what it said.
func Open(ctx context.Context, c Config) (backend.Backend, error) {
	b, err := start(ctx, c, rest.Open)
	if err != nil {
		return nil, err // a nil *Backend in an interface would not be nil
	}
	return b, nil
}

// Create makes the directories of a repository. One that is there already is an error of class
// backend.ErrExist.
func Create(ctx context.Context, c Config) (backend.Backend, error) {
	b, err := start(ctx, c, rest.Create)
	if err != nil {
		return nil, err
	}
	return b, nil
}

func start(ctx context.Context, c Config, open func(context.Context, rest.Config) (backend.Backend, error)) (*Backend, error) {
	child, err := run(c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Public(), err)
	}
	b := &Backend{location: c.Public(), child: child}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("rclone has not answered for %v", c.Timeout))
	defer cancel()
	if err := b.connect(ctx, c, open); err != nil {
		cause := context.Cause(ctx)
		b.stop()
		switch said := child.lastWords(); {
		case errors.Is(err, backend.ErrExist):
		case cause != nil:
			err = cause
		case said != "":
			err = fmt.Errorf("rclone says: %s", said)
		}
		return nil, fmt.Errorf("%s: %w", b.location, err)
	}
	return b, nil
}

// connect begins to speak HTTP/2 with the child, and makes sure that it answers.
func (b *Backend) connect(ctx context.Context, c Config, open func(context.Context, rest.Config) (backend.Backend, error)) error {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	t := &http.Transport{DialContext: b.child.dial, Protocols: protocols, DisableCompression: true}
	var err error
	if b.conn, err = t.NewClientConn(ctx, "http", "localhost:80"); err != nil {
		return err
	}
	rt := transport.EndStuck(alive{b.conn, b.child}, c.StuckAfter)
	b.Backend, err = open(ctx, rest.Config{URL: "http://localhost/", Connections: c.Connections, Transport: rt})
	if err != nil {
		return err
	}
	_, err = b.Backend.Stat(ctx, backend.File{Kind: backend.Config})
	if errors.Is(err, backend.ErrNotExist) {
		return nil
	}
	return err
}

// Location implements backend.Backend.
func (b *Backend) Location() string { return b.location }

// Close implements backend.Backend. It returns when rclone has ended.
func (b *Backend) Close() error {
	b.stop()
	return nil
}

// endTime is how long rclone may take to end when it has nobody to talk to.
const endTime = 5 * time.Second

func (b *Backend) stop() {
	if b.conn != nil {
		b.conn.Close() // what it says of a connection that is closed for good is of no use
	}
	b.child.end(endTime)
}

// alive carries requests as long as the child runs.
type alive struct {
	http.RoundTripper
	child *child
}

// RoundTrip implements http.RoundTripper. That the child has ended is an error of class
// backend.ErrDenied, as it does not come back.
func (a alive) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := a.RoundTripper.RoundTrip(req)
	if err == nil {
		return resp, nil
	}
	select {
	case <-a.child.exited:
		return nil, fmt.Errorf("%w: rclone has ended: %s", backend.ErrDenied, a.child.lastWords())
	default:
		return nil, err
	}
}
