package rclone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/backend/transport"
)

// carrier takes requests to the child that runs, and starts another one when it has ended. The pauses between
// children that end at once grow to maxRest; who asks in one gets the error of the last child. That may pass, however
// often it was tried: who makes calls again knows how long. Only a program that is missing is of class backend.ErrDenied.
type carrier struct {
	cfg Config
	log *slog.Logger

	turn    chan struct{} // holds one token: who has it owns all below. A start takes time, and waiting for it may be given up
	session *session      // nil before the first, and when the last start failed
	closed  bool
	failed  int       // starts in a row that came to nothing
	next    time.Time // no start before
	reason  error     // of the last failure
}

const (
	firstRest = 100 * time.Millisecond
	maxRest   = 10 * time.Second
)

// session is a child and the connection to it.
type session struct {
	child *process
	conn  *http.ClientConn
	rt    http.RoundTripper
}

func newCarrier(c Config) *carrier {
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &carrier{cfg: c, log: log, turn: make(chan struct{}, 1)}
}

// first starts the first child; no second one is tried.
func (c *carrier) first(ctx context.Context) (err error) {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	c.session, err = launch(ctx, c.cfg)
	return err
}

// RoundTrip implements http.RoundTripper. That the child has ended is an error that may pass.
func (c *carrier) RoundTrip(req *http.Request) (*http.Response, error) {
	s, err := c.get(req.Context())
	if err != nil {
		return nil, err
	}
	before := s.child.said.errors()
	resp, err := s.rt.RoundTrip(req)
	if err != nil {
		return nil, s.explain(err)
	}
	if resp.StatusCode/100 != 5 || req.Method == http.MethodDelete { // of which package rest knows more
		return resp, nil
	}
	said := s.child.said.about(path.Base(req.URL.Path), before)
	if said == "" {
		return resp, nil
	}
	io.CopyN(io.Discard, resp.Body, 16<<10) // it only repeats the status
	resp.Body.Close()
	return nil, failed(req, said)
}

// failed makes an error of what rclone says about a request.
func failed(req *http.Request, said string) error {
	lower := strings.ToLower(said)
	if req.Method == http.MethodPost && slices.ContainsFunc(full, func(words string) bool { return strings.Contains(lower, words) }) {
		return fmt.Errorf("%w, says rclone: %s (nothing is damaged: make room and run it again)", backend.ErrFull, said)
	}
	return fmt.Errorf("%w, says rclone: %s", backend.ErrFails, said)
}

// full is how the stores that rclone knows say in lower case that nothing more goes into them. "quota" alone does
// not: it may be one of requests in a minute.
var full = []string{
	"no space left on device", "file too big for remaining disk space", "disk quota exceeded", // disks
	"storage quota", "storagequotaexceeded", "quotalimitreached", "quotaexceeded", "insufficient_space",
	"insufficient storage", "insufficient space", "not enough space", "storage is full", "storagefull",
}

// get returns a session that has not ended.
func (c *carrier) get(ctx context.Context) (*session, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	switch {
	case c.closed:
		return nil, fmt.Errorf("%w: rclone has been ended", backend.ErrDenied)
	case c.session != nil && !c.session.over():
		return c.session, nil
	case time.Now().Before(c.next):
		return nil, c.reason
	}
	if old := c.session; old != nil {
		c.session = nil
		c.log.Warn("rclone has ended and is started again", "error", old.explain(errors.New("its connection broke")))
		old.end(ctx.Done(), time.Second) // it may only have lost its connection
	}
	startCtx, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, slowStart(c.cfg))
	defer cancel()
	s, err := launch(startCtx, c.cfg)
	switch {
	case err == nil:
		c.session, c.failed = s, 0
		return s, nil
	case ctx.Err() != nil:
		return nil, ctx.Err() // that is no fault of the child
	case context.Cause(startCtx) != nil:
		err = context.Cause(startCtx)
	}
	c.next = time.Now().Add(min(firstRest<<min(c.failed, 10), maxRest))
	c.failed++
	c.reason = fmt.Errorf("rclone has ended and cannot be started again (tried %d times): %w", c.failed, err)
	return nil, c.reason
}

// close ends the child for good, and returns its last words.
func (c *carrier) close() (said string) {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	c.closed = true
	if c.session == nil {
		return ""
	}
	c.session.end(nil, endTime)
	said = c.session.child.lastWords(false)
	c.session = nil
	return said
}

// launch starts a child, speaks HTTP/2 with it and makes sure that it answers.
func launch(ctx context.Context, c Config) (*session, error) {
	child, err := run(c)
	if err != nil {
		return nil, err
	}
	s := &session{child: child}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	t := &http.Transport{DialContext: child.dial, Protocols: protocols, DisableCompression: true}
	if s.conn, err = t.NewClientConn(ctx, "http", "localhost:80"); err == nil {
		s.rt = transport.EndStuck(s.conn, c.StuckAfter)
		err = s.ask(ctx)
	}
	if err != nil {
		unasked := child.endsItself(ctx)
		s.end(ctx.Done(), endTime)
		if said := child.lastWords(unasked); said != "" {
			err = errors.New(said)
		}
		return nil, err
	}
	child.said.live()
	return s, nil
}

// ask waits for an answer, whatever it says.
func (s *session) ask(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://localhost/config", nil)
	if err != nil {
		return err
	}
	resp, err := s.rt.RoundTrip(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// over tells whether the session carries nothing any more.
func (s *session) over() bool {
	select {
	case <-s.child.exited:
		return true
	default:
		return s.conn.Err() != nil
	}
}

// explain says that the child has ended when that is why a request failed.
func (s *session) explain(err error) error {
	select {
	case <-s.child.exited:
		return fmt.Errorf("rclone has ended: %s", s.child.how())
	default:
		return err
	}
}

// end closes the connection, which ends the child, and waits for that; after patience, or when stop
// is closed, it is killed.
func (s *session) end(stop <-chan struct{}, patience time.Duration) {
	if s.conn != nil {
		s.conn.Close() // what it says of a connection that is closed for good is of no use
	}
	s.child.end(stop, patience)
}
