package s3

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
)

// A 404 of something that stands before the server is no answer about a file, and least of all an empty list.
func TestNotFoundByAProxy(t *testing.T) {
	config, pack := backend.File{Kind: backend.Config}, backendtest.FileOf(backend.Pack, []byte("x"))
	for name, page := range map[string]string{
		"text":    "404 page not found\n",
		"HTML":    "<html><head><title>404 Not Found</title></head></html>",
		"XML":     "<?xml version=\"1.0\"?><Problem><Code>NoSuchKey</Code></Problem>",
		"nothing": "",
	} {
		be := fake(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, page)
		})
		ctx := t.Context()
		_, readAll := be.ReadAll(ctx, config, 100)
		_, stat := be.Stat(ctx, pack)
		_, statConfig := be.Stat(ctx, config)
		calls := map[string]error{
			"read": be.ReadAt(ctx, pack, make([]byte, 1), 0), "read all": readAll, "stat": stat, "stat config": statConfig,
			"save": be.Save(ctx, pack, []byte("x")), "save config": be.Save(ctx, config, []byte("x")), "remove": be.Remove(ctx, pack),
		}
		for _, kind := range backend.Kinds {
			calls["list "+kind.String()] = be.List(ctx, kind, func(info backend.Info) error {
				t.Errorf("%s: List(%v) tells of %+v", name, kind, info)
				return nil
			})
		}
		for op, err := range calls {
			if err == nil || backend.IsPermanent(err) || !errors.Is(err, backend.ErrNoServer) || !strings.Contains(err.Error(), "404") {
				t.Errorf("%s, %s: %v, want an error that may pass", name, op, err)
			}
		}
	}
}

// The answer to a HEAD has no document. Where it has no ID of the request either, a GET is asked.
func TestNotFoundToHead(t *testing.T) {
	pack := backendtest.FileOf(backend.Pack, []byte("x"))
	for name, c := range map[string]struct {
		id    string // of the answer to the HEAD
		get   int    // status of the GET, 0: there must be none
		class error  // nil: transient
	}{
		"server with IDs":    {"tx1", 0, backend.ErrNotExist},
		"server without IDs": {"", http.StatusNotFound, backend.ErrNotExist},
		"it is there":        {"", http.StatusPartialContent, nil},
		"it is empty":        {"", http.StatusRequestedRangeNotSatisfiable, nil},
		"the server fails":   {"", http.StatusServiceUnavailable, nil},
		"it is not allowed":  {"", http.StatusForbidden, backend.ErrDenied},
	} {
		gets := 0
		be := fake(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				if c.id != "" {
					w.Header().Set("X-Amz-Request-Id", c.id)
				}
				w.WriteHeader(http.StatusNotFound)
				return
			}
			gets++
			switch c.get {
			case http.StatusPartialContent:
				w.Header().Set("Last-Modified", "Wed, 21 Oct 2026 07:28:00 GMT")
				w.Header().Set("Content-Range", "bytes 0-0/1")
				w.WriteHeader(c.get)
				io.WriteString(w, "x")
			case http.StatusNotFound:
				w.WriteHeader(c.get)
				io.WriteString(w, "<Error><Code>NoSuchKey</Code><Message>told</Message></Error>")
			default:
				fail(w, c.get, map[int]string{403: "AccessDenied", 416: "InvalidRange", 503: "SlowDown"}[c.get], "told")
			}
		})
		_, err := be.Stat(t.Context(), pack)
		if c.class == nil && (err == nil || backend.IsPermanent(err)) || c.class != nil && !errors.Is(err, c.class) {
			t.Errorf("%s: %v, want class %v", name, err, c.class)
		}
		if want := min(c.get, 1); gets != want {
			t.Errorf("%s: %d GETs, want %d", name, gets, want)
		}
	}
}

// A bucket that is not known any more makes no list empty: a repository was opened in it.
func TestListWithoutBucket(t *testing.T) {
	be := fake(t, func(w http.ResponseWriter, _ *http.Request) { fail(w, http.StatusNotFound, "NoSuchBucket", "told") })
	for _, kind := range backend.Kinds[1:] {
		err := be.List(t.Context(), kind, func(backend.Info) error { return nil })
		if err == nil || backend.IsPermanent(err) || !strings.Contains(err.Error(), "bucket") {
			t.Errorf("List(%v): %v, want an error that may pass", kind, err)
		}
	}
}
