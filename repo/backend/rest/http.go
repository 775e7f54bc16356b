package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

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
	release, err := b.slots.Take(ctx)
	if err != nil {
		return err
	}
	defer release()
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
		upload := backend.NewUpload(c.upload)
		attach(req, upload, len(c.upload))
		err = upload.End(b.answer(req, c, use))
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

// errDoubtful is how rclone answers for a file: it says 404 whatever kept it from finding out.
var errDoubtful = fmt.Errorf("%w, says rclone", backend.ErrNotExist)

// errRemove is how rclone answers to a DELETE of a file that it remembers and its store does not have any more.
var errRemove = errors.New("rclone cannot remove it")

// ask is do for a request about a file. That there is none is believed of rclone only when the store behind it
// answers: the list of its kind does not have it or, since no list has the config, that of the keys comes, and a
// second question has the same answer. That costs a listing for each file that is missing, which few are.
func (b *Backend) ask(ctx context.Context, f backend.File, c call, use func(*http.Response) error) error {
	err := b.do(ctx, c, use)
	if !errors.Is(err, errDoubtful) && !errors.Is(err, errRemove) {
		return err
	}
	kind := f.Kind
	if kind == backend.Config {
		kind = backend.Key
	}
	var files []backend.Info
	listErr := b.do(ctx, call{method: http.MethodGet, path: kind.Dir() + "/"}, func(resp *http.Response) (err error) {
		files, _, err = decodeList(json.NewDecoder(resp.Body), kind)
		return err
	})
	if listErr != nil {
		return fmt.Errorf("rclone does not find it, and does not list either: %w", listErr)
	}
	if f.Kind == backend.Config {
		if err = b.do(ctx, c, use); errors.Is(err, errDoubtful) {
			return backend.ErrNotExist
		}
		return err
	}
	at := slices.IndexFunc(files, func(info backend.Info) bool { return info.Name == f.Name })
	switch {
	case at < 0:
		return backend.ErrNotExist
	case c.want != nil && files[at].SizeBytes >= 0 && files[at].SizeBytes <= c.want.last:
		return backend.ErrShort // what some stores refuse, and rclone then says 404
	case errors.Is(err, errRemove):
		return err
	}
	return errors.New("rclone does not find it, but lists it: the store behind it does not answer, or the file came a moment ago")
}

// ofList tells whether a listing was asked for.
func ofList(resp *http.Response) bool {
	return resp.Request.Method == http.MethodGet && strings.HasSuffix(resp.Request.URL.Path, "/")
}

// refusal makes an error of a status.
func refusal(method string, resp *http.Response) error {
	status := resp.Status
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound && !strings.HasPrefix(resp.Header.Get("Server"), "rclone/"):
		return backend.ErrNotExist
	case code == http.StatusNotFound && ofList(resp):
		// A directory that is missing is an empty list to rclone; this is how its older versions say
		// that the store behind them does not answer.
		return fmt.Errorf("the server answers %s to a listing: the store behind rclone does not answer", status)
	case code == http.StatusNotFound:
		return errDoubtful
	case code == http.StatusInternalServerError && method == http.MethodDelete && strings.HasPrefix(resp.Header.Get("Server"), "rclone/"):
		return fmt.Errorf("%w: %s", errRemove, status)
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
	case code == http.StatusInternalServerError:
		return fmt.Errorf("%w: it answers %s, and its log says why; its disk may be full", backend.ErrFails, status)
	case code/100 == 5:
		return fmt.Errorf("%w: it answers %s", backend.ErrFails, status)
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

// attach makes an upload the body of req.
func attach(req *http.Request, upload *backend.Upload, bytes int) {
	req.Header.Set("Content-Type", "application/octet-stream")
	req.ContentLength = int64(bytes)
	if bytes == 0 {
		req.Body = http.NoBody
		return
	}
	req.GetBody = func() (io.ReadCloser, error) { return upload.Body(), nil }
	req.Body = upload.Body()
}
