package transport

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// EndStuck returns a round tripper that ends a request of which no byte has moved for so long; 0 means
// never.
func EndStuck(rt http.RoundTripper, after time.Duration) http.RoundTripper {
	if after <= 0 {
		return rt
	}
	return stuck{rt, after}
}

// stuck ends requests that do not move: neither has a byte of the body been taken for sending, nor
// has the answer begun or brought a byte. Where that happens the network may have changed, and then the connections
// that are kept for later are as dead: they are closed, or each would cost a request of its own to be found out.
type stuck struct {
	http.RoundTripper
	after time.Duration
}

// CloseIdleConnections closes the connections that no request uses.
func (s stuck) CloseIdleConnections() { closeIdle(s.RoundTripper) }

// RoundTrip implements http.RoundTripper. The clock of a request stops when its body is closed.
func (s stuck) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	reason := fmt.Errorf("no byte has moved for %v", s.after)
	w := &watch{after: s.after, reason: reason, ctxErr: func() error { return context.Cause(ctx) }, ended: s.CloseIdleConnections}
	w.timer = time.AfterFunc(s.after, func() { cancel(reason) })
	w.end = func() {
		w.timer.Stop()
		cancel(nil)
	}

	req = req.WithContext(ctx)
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &watchedBody{ReadCloser: req.Body, w: w}
		if again := req.GetBody; again != nil {
			req.GetBody = func() (io.ReadCloser, error) {
				body, err := again()
				if err != nil {
					return nil, err
				}
				return &watchedBody{ReadCloser: body, w: w}, nil
			}
		}
	}
	resp, err := s.RoundTripper.RoundTrip(req)
	if err != nil {
		err = w.explain(err)
		w.end()
		return nil, err
	}
	w.moved()
	resp.Body = &watchedBody{ReadCloser: resp.Body, w: w, last: true}
	return resp, nil
}

// watch is the clock of one request.
type watch struct {
	timer  *time.Timer
	after  time.Duration
	reason error
	ctxErr func() error
	end    func() // stops the clock
	ended  func() // called when the clock has ended the request
}

func (w *watch) moved() { w.timer.Reset(w.after) }

// explain says why a request was ended when it was the clock that did it.
func (w *watch) explain(err error) error {
	if w.ctxErr() == w.reason {
		w.ended()
		return w.reason
	}
	return err
}

// watchedBody tells the clock of every byte.
type watchedBody struct {
	io.ReadCloser
	w    *watch
	last bool // the body of the answer, whose end is the request's
}

// Read implements io.Reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.w.moved()
	}
	if err != nil && err != io.EOF {
		err = b.w.explain(err)
	}
	return n, err
}

// Close implements io.Closer.
func (b *watchedBody) Close() error {
	if b.last {
		b.w.end()
	}
	return b.ReadCloser.Close()
}
