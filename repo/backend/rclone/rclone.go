// Package rclone reaches every store that rclone knows: it runs `rclone serve restic --stdio` and
// speaks the REST protocol (package rest) over HTTP/2 on the child's standard input and output. No port
// is opened, and the child ends with the backend. When it ends before, the calls under way fail for a reason that
// may pass, and the next one starts another child.
package rclone

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/backend/rest"
)

// Backend is a repository behind an rclone of its own.
type Backend struct {
	backend.Backend // package rest's
	location        string
	carrier         *carrier
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
	b := &Backend{location: c.Public(), carrier: newCarrier(c)}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, slowStart(c))
	defer cancel()
	if err := b.connect(ctx, c, open); err != nil {
		cause := context.Cause(ctx)
		said := b.carrier.close()
		switch {
		case errors.Is(err, backend.ErrExist):
		case cause != nil:
			err = cause
		case said != "":
			err = errors.New(said)
		}
		return nil, fmt.Errorf("%s: %w", b.location, err)
	}
	return b, nil
}

// connect starts the first child, and makes sure that it answers.
func (b *Backend) connect(ctx context.Context, c Config, open func(context.Context, rest.Config) (backend.Backend, error)) error {
	err := b.carrier.first(ctx)
	if err != nil {
		return err
	}
	b.Backend, err = open(ctx, rest.Config{URL: "http://localhost/", Connections: c.Connections, Transport: b.carrier})
	return err
}

// Location implements backend.Backend.
func (b *Backend) Location() string { return b.location }

// Close implements backend.Backend. It returns when rclone has ended.
func (b *Backend) Close() error {
	b.carrier.close()
	return nil
}

// endTime is how long rclone may take to end when it has nobody to talk to.
const endTime = 5 * time.Second

func slowStart(c Config) error { return fmt.Errorf("rclone has not answered for %v", c.Timeout) }
