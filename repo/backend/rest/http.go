package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"vitrine/repo/backend"
)

// call is one request.
type call struct {
	method string
	path   string // below the URL of the repository
	upload []byte // body of a POST
	want   *span  // part of a file that a GET asks for
}

// nothing is for answers whose body says nothing.
func nothing(*http.Response) error { return nil }

// do makes a request and hands a good answer to use. It ends with the error of the context when that is
// over. net/http repeats a request by itself only when nothing of it was sent or, without a body, when
// the connection had been idle too long.
func (b *Backend) do(ctx context.Context, c call, use func(*http.Response) error) error {
	select {
	case b.slots <- struct{}{}:
		defer func() { <-b.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	req, err := http.NewRequestWithContext(ctx, c.method, b.cfg.URL+c.path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", mediaType)
	req.Header.Set("User-Agent", "vitrine")
	if b.cfg.Username != "" || b.cfg.Password != "" {
		req.SetBasicAuth(b.cfg.Username, b.cfg.Password)
	}
	if c.want != nil {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", c.want.first, c.want.last))
	}
	if c.method == http.MethodPost {
		gate := &gate{whole: len(c.upload) == 0}
		gate.attach(req, c.upload)
		err = b.answer(req, c, use)
		if whole := gate.close(); err == nil && !whole {
			err = errors.New("the server answers before it has the whole file")
		}
	} else {
		err = b.answer(req, c, use)
	}
	if ctx.Err() != nil && err != nil {
		return ctx.Err() // not its cause, which is what net/http returns
	}
	return err
}

func (b *Backend) answer(req *http.Request, c call, use func(*http.Response) error) error {
	resp, err := b.client.Do(req)
	if err != nil {
		var outer *url.Error // repeats method and URL
		if errors.As(err, &outer) {
			err = outer.Err
		}
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 == 2 {
		err = use(resp)
	} else {
		err = refusal(c.method, resp)
	}
	// A connection is used again only when its last answer was read to the end.
	io.CopyN(io.Discard, resp.Body, 16<<10)
	return err
}

// ofList tells whether a listing was asked for.
func ofList(resp *http.Response) bool {
	return resp.Request.Method == http.MethodGet && strings.HasSuffix(resp.Request.URL.Path, "/")
}

// refusal makes an error of a status.
func refusal(method string, resp *http.Response) error {
	status := resp.Status
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound && ofList(resp) && strings.HasPrefix(resp.Header.Get("Server"), "rclone/"):
		// A directory that is missing is an empty list to rclone; this is how its older versions say
		// that the store behind them does not answer.
		return fmt.Errorf("the server answers %s to a listing: the store behind rclone does not answer", status)
	case code == http.StatusNotFound:
		return backend.ErrNotExist
	case code == http.StatusRequestedRangeNotSatisfiable:
		return backend.ErrShort
	case code == http.StatusUnauthorized:
		return fmt.Errorf("%w: %s: give the right user and password, in VITRINE_REST_USERNAME and VITRINE_REST_PASSWORD or in the URL", backend.ErrDenied, status)
	case code == http.StatusForbidden && method == http.MethodDelete:
		return fmt.Errorf("%w: %s: it lets nobody delete; an append-only server takes deletions only where it runs", backend.ErrDenied, status)
	case code == http.StatusForbidden && method == http.MethodPost:
		return fmt.Errorf("%w: %s: this user may not write there, or the server is append-only and the file exists", backend.ErrDenied, status)
	case code/100 == 3:
		return fmt.Errorf("%w: %s: the repository has moved; name the place it has moved to: %s", backend.ErrDenied, status, target(resp))
	case code == http.StatusInsufficientStorage:
		return fmt.Errorf("%w: %s: nothing is damaged: make room on the server, or raise the quota, and run it again", backend.ErrFull, status)
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests:
		return fmt.Errorf("the server answers %s", status)
	case code/100 == 4:
		return fmt.Errorf("%w: %s", backend.ErrDenied, status)
	}
	return fmt.Errorf("the server answers %s", status)
}

// target is where a redirection leads, without credentials.
func target(resp *http.Response) string {
	u, err := resp.Location()
	if err != nil {
		return "unknown"
	}
	u.User, u.RawQuery = nil, ""
	return u.String()
}

// readFull fills p from a body that must be as long.
func readFull(resp *http.Response, p []byte) error {
	if n, err := io.ReadFull(resp.Body, p); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("the answer ends after %d of %d bytes: %w", n, len(p), err)
	}
	var more [1]byte
	if n, _ := resp.Body.Read(more[:]); n > 0 {
		return fmt.Errorf("the answer has more than %d bytes", len(p))
	}
	return nil
}

// span is a part of a file; last belongs to it.
type span struct{ first, last int64 }

// check returns nil when the answer holds exactly the span.
func (s span) check(resp *http.Response) error {
	length := s.last - s.first + 1
	if resp.StatusCode != http.StatusPartialContent {
		if s.first == 0 && resp.StatusCode == http.StatusOK && resp.ContentLength >= 0 {
			if resp.ContentLength < length {
				return backend.ErrShort
			} else if resp.ContentLength == length {
				return nil
			}
		}
		return fmt.Errorf("bytes %d to %d were asked for, the server answers %s", s.first, s.last, resp.Status)
	}
	got, total, err := parseContentRange(resp.Header.Get("Content-Range"))
	switch {
	case err != nil:
		return err
	case got == s:
		return nil
	case got.first == s.first && got.last < s.last && total == got.last+1:
		return backend.ErrShort
	}
	return fmt.Errorf("bytes %d to %d were asked for, the server sends %d to %d", s.first, s.last, got.first, got.last)
}

// parseContentRange reads "bytes 0-99/1000"; total is -1 for "bytes 0-99/*".
func parseContentRange(header string) (s span, total int64, err error) {
	text, ok := strings.CutPrefix(header, "bytes ")
	ends, size, ok2 := strings.Cut(text, "/")
	first, last, ok3 := strings.Cut(ends, "-")
	if !ok || !ok2 || !ok3 {
		return s, 0, fmt.Errorf("the server sends a part of the file as %q", header)
	}
	total = -1
	var errs [3]error
	s.first, errs[0] = strconv.ParseInt(first, 10, 64)
	s.last, errs[1] = strconv.ParseInt(last, 10, 64)
	if size != "*" {
		total, errs[2] = strconv.ParseInt(size, 10, 64)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return s, 0, fmt.Errorf("the server sends a part of the file as %q: %w", header, err)
	}
	return s, total, nil
}

// gate stands before the bytes of an upload. net/http may still be reading a body when a request has
// failed; after close nobody does, so that the buffer is the caller's again.
type gate struct {
	mu     sync.Mutex
	closed bool
	whole  bool // the last byte has been read
}

// close ends the reading, and tells whether all has been read.
func (g *gate) close() (whole bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	return g.whole
}

// attach makes content the body of req.
func (g *gate) attach(req *http.Request, content []byte) {
	req.Header.Set("Content-Type", "application/octet-stream")
	req.ContentLength = int64(len(content))
	if len(content) == 0 {
		req.Body = http.NoBody
		return
	}
	req.GetBody = func() (io.ReadCloser, error) { return &guarded{g, bytes.NewReader(content)}, nil }
	req.Body = &guarded{g, bytes.NewReader(content)}
}

// guarded is a body behind a gate.
type guarded struct {
	gate *gate
	r    *bytes.Reader
}

// Read implements io.Reader.
func (b *guarded) Read(p []byte) (int, error) {
	b.gate.mu.Lock()
	defer b.gate.mu.Unlock()
	if b.gate.closed {
		return 0, errors.New("the request is over")
	}
	n, err := b.r.Read(p)
	if b.r.Len() == 0 {
		b.gate.whole = true
	}
	return n, err
}

// Close implements io.Closer.
func (b *guarded) Close() error { return nil }
