// Package rest is a client of restic's REST protocol, in its versions 1 and 2: restic's rest-server,
// `rclone serve restic`, and others speak it.
//
//	POST   {url}?create=true     make the directories of a repository
//	HEAD   {url}config           its size
//	GET    {url}config           its content; the header Range asks for a part
//	POST   {url}config           save
//	DELETE {url}config           remove
//	…      {url}{kind}/{name}    the same for keys, data, index, snapshots and locks; data is flat here
//	GET    {url}{kind}/          list: version 2 [{"name":"…","size":1},…], version 1 ["…",…]
//
// Which version a list has is the server's choice; that of version 1 costs one HEAD for each file.
// The server makes files durable before it answers and replaces them at once, or does not: that cannot
// be checked from here. (rclone over a local directory does neither. It matters little, as no two files of
// a repository have one name but where a Save is made again, and nobody reads a file that is not yet saved.)
package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"vitrine/repo/backend"
)

const mediaType = "application/vnd.x.restic.rest.v2"

// Backend is a repository on a REST server.
type Backend struct {
	cfg    Config
	client *http.Client
	slots  backend.Slots
	opened bool // by Open: a config must be there
}

var _ backend.Backend = (*Backend)(nil)

// Open returns the backend; it makes no request.
func Open(_ context.Context, c Config) (backend.Backend, error) {
	b, err := open(c)
	if err != nil {
		return nil, err // a nil *Backend in an interface would not be nil
	}
	b.opened = true
	return b, nil
}

func open(c Config) (*Backend, error) {
	if c.Transport == nil || c.Connections < 1 {
		return nil, fmt.Errorf("%s: no transport or no connections", c.Public())
	}
	return &Backend{
		cfg: c,
		client: &http.Client{
			Transport: c.Transport,
			// Followed, a POST could become a GET that stores nothing.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		slots: make(backend.Slots, c.Connections),
	}, nil
}

// Create makes the directories of a repository on the server. One that is there already is an
// error of class backend.ErrExist; keys without a config are none, as an interrupted init leaves them.
func Create(ctx context.Context, c Config) (backend.Backend, error) {
	b, err := open(c)
	if err != nil {
		return nil, err
	}
	if err = b.noConfig(ctx); err == nil {
		err = b.do(ctx, call{method: http.MethodPost, path: "?create=true"}, nothing)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create %s: %w", c.Public(), err), b.Close())
	}
	return b, nil
}

// noConfig returns an error of class backend.ErrExist when there is a config. rclone knows none also
// when the store behind it does not answer, but then it has no list either.
func (b *Backend) noConfig(ctx context.Context) error {
	_, err := b.size(ctx, backend.File{Kind: backend.Config})
	switch {
	case err == nil:
		return backend.ErrExist
	case !errors.Is(err, backend.ErrNotExist):
		return err
	}
	_, err = b.list(ctx, backend.Key)
	return err
}

// path is where a file is below the URL: as everywhere, but that data has no directories inside.
func path(f backend.File) string {
	if f.Kind == backend.Pack {
		return "data/" + f.Name
	}
	return f.Path()
}

// Save implements backend.Backend. A server that refuses to replace files is asked whether it has
// the same bytes; a damaged file it must let us remove first. A refusal lasts only when the question is answered.
func (b *Backend) Save(ctx context.Context, f backend.File, content []byte) error {
	if err := b.save(ctx, f, content); err != nil {
		return fmt.Errorf("save %v: %w", f, err)
	}
	return nil
}

func (b *Backend) save(ctx context.Context, f backend.File, content []byte) error {
	if err := f.Check(); err != nil {
		return err
	}
	if f.Kind == backend.Config {
		// rclone would replace it.
		if err := b.noConfig(ctx); err != nil {
			return err
		}
	}
	post := call{method: http.MethodPost, path: path(f), upload: content}
	refused := b.do(ctx, post, nothing)
	if !errors.Is(refused, backend.ErrDenied) {
		return refused
	}
	stored, err := b.readAll(ctx, f, int64(len(content)))
	switch there := err == nil || errors.Is(err, backend.ErrTooBig); {
	case errors.Is(err, backend.ErrNotExist), errors.Is(err, backend.ErrDenied):
		return refused // it is not because of a file that is there
	case !there:
		return fmt.Errorf("%v; whether it is there already cannot be read: %w", refused, err)
	case f.Kind == backend.Config:
		return fmt.Errorf("%w: %w", backend.ErrExist, refused)
	case err == nil && bytes.Equal(stored, content):
		return nil
	}
	if err := b.remove(ctx, f); err != nil {
		return fmt.Errorf("other bytes are stored under this name: %w", err)
	}
	return b.do(ctx, post, nothing)
}

// ReadAt implements backend.Backend.
func (b *Backend) ReadAt(ctx context.Context, f backend.File, p []byte, offsetBytes int64) error {
	if err := b.readAt(ctx, f, p, offsetBytes); err != nil {
		return fmt.Errorf("read %v at %d+%d: %w", f, offsetBytes, len(p), err)
	}
	return nil
}

func (b *Backend) readAt(ctx context.Context, f backend.File, p []byte, offsetBytes int64) error {
	if err := f.Check(); err != nil {
		return err
	}
	if len(p) == 0 || offsetBytes < 0 { // no range can say that
		size, err := b.size(ctx, f)
		if err == nil && (offsetBytes < 0 || offsetBytes > size) {
			err = backend.ErrShort
		}
		return err
	}
	want := span{offsetBytes, offsetBytes + int64(len(p)) - 1}
	return b.ask(ctx, f, call{method: http.MethodGet, path: path(f), want: &want}, func(resp *http.Response) error {
		if err := want.check(resp); err != nil {
			return err
		}
		return backend.ReadBody(resp.Body, p)
	})
}

// ReadAll implements backend.Backend.
func (b *Backend) ReadAll(ctx context.Context, f backend.File, maxBytes int64) ([]byte, error) {
	content, err := b.readAll(ctx, f, maxBytes)
	if err != nil {
		return nil, fmt.Errorf("read %v: %w", f, err)
	}
	return content, nil
}

func (b *Backend) readAll(ctx context.Context, f backend.File, maxBytes int64) (content []byte, err error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	err = b.ask(ctx, f, call{method: http.MethodGet, path: path(f)}, func(resp *http.Response) error {
		switch {
		case resp.StatusCode != http.StatusOK:
			return fmt.Errorf("the whole file was asked for, the server answers %s", resp.Status)
		case resp.ContentLength > maxBytes:
			return fmt.Errorf("%d bytes: %w", resp.ContentLength, backend.ErrTooBig)
		case resp.ContentLength >= 0:
			content = make([]byte, resp.ContentLength)
			return backend.ReadBody(resp.Body, content)
		}
		var err error
		if content, err = io.ReadAll(io.LimitReader(resp.Body, maxBytes+1)); err == nil && int64(len(content)) > maxBytes {
			err = backend.ErrTooBig
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return content, nil
}

// Stat implements backend.Backend.
func (b *Backend) Stat(ctx context.Context, f backend.File) (backend.Info, error) {
	size, err := b.size(ctx, f)
	if err != nil {
		return backend.Info{}, fmt.Errorf("stat %v: %w", f, err)
	}
	return backend.Info{Name: f.Name, SizeBytes: size}, nil
}

func (b *Backend) size(ctx context.Context, f backend.File) (n int64, err error) {
	if err := f.Check(); err != nil {
		return 0, err
	}
	err = b.ask(ctx, f, call{method: http.MethodHead, path: path(f)}, func(resp *http.Response) error {
		// Where there is no Content-Length the client takes a status without a body for 0.
		if n, err = strconv.ParseInt(resp.Header.Get("Content-Length"), 10, 64); err != nil || n < 0 {
			return fmt.Errorf("the server does not tell the size")
		}
		return nil
	})
	return n, err
}

// Remove implements backend.Backend.
func (b *Backend) Remove(ctx context.Context, f backend.File) error {
	if err := f.Check(); err != nil {
		return fmt.Errorf("remove %v: %w", f, err)
	}
	if err := b.remove(ctx, f); err != nil {
		return fmt.Errorf("remove %v: %w", f, err)
	}
	return nil
}

func (b *Backend) remove(ctx context.Context, f backend.File) error {
	return b.ask(ctx, f, call{method: http.MethodDelete, path: path(f)}, nothing)
}

// Location implements backend.Backend.
func (b *Backend) Location() string { return strings.TrimSuffix(b.cfg.Public(), "/") }

// Close implements backend.Backend.
func (b *Backend) Close() error {
	b.client.CloseIdleConnections()
	return nil
}
