package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/rest"
)

// odd is a server with one answer for everything.
func odd(t *testing.T, answer http.HandlerFunc) backend.Backend {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return opened(t, "rest:"+server.URL+"/r")
}

// class is what an error must be: of this class, or transient when it is nil.
func wantClass(t *testing.T, what string, err, class error) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("%s: no error", what)
	case class == nil && backend.IsPermanent(err):
		t.Errorf("%s: %v is permanent", what, err)
	case class != nil && !errors.Is(err, class):
		t.Errorf("%s: %v, want class %q", what, err, class)
	}
}

var somePack = backend.File{Kind: backend.Pack, Name: strings.Repeat("5e", 32)}

func TestStatuses(t *testing.T) {
	for status, class := range map[int]error{
		http.StatusBadRequest:              backend.ErrDenied,
		http.StatusUnauthorized:            backend.ErrDenied,
		http.StatusForbidden:               backend.ErrDenied,
		http.StatusNotFound:                backend.ErrNotExist,
		http.StatusMethodNotAllowed:        backend.ErrDenied,
		http.StatusRequestTimeout:          nil,
		http.StatusTooManyRequests:         nil,
		http.StatusInternalServerError:     nil,
		http.StatusBadGateway:              nil,
		http.StatusServiceUnavailable:      nil,
		http.StatusInsufficientStorage:     backend.ErrFull,
		http.StatusMovedPermanently:        backend.ErrDenied,
		http.StatusTemporaryRedirect:       backend.ErrDenied,
		http.StatusHTTPVersionNotSupported: nil,
	} {
		be := odd(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "https://anna:geheim@elsewhere/r/?key=geheim")
			w.WriteHeader(status)
		})
		ctx := t.Context()
		_, readAll := be.ReadAll(ctx, somePack, 100)
		_, stat := be.Stat(ctx, somePack)
		errs := map[string]error{
			"ReadAt": be.ReadAt(ctx, somePack, make([]byte, 10), 0), "ReadAll": readAll, "Stat": stat,
			"Save": be.Save(ctx, somePack, []byte("x")), "Remove": be.Remove(ctx, somePack),
		}
		if status != http.StatusNotFound {
			errs["List"] = be.List(ctx, backend.Pack, func(backend.Info) error { return nil })
		}
		for call, err := range errs {
			wantClass(t, fmt.Sprintf("%s, %d", call, status), err, class)
			if err != nil && strings.Contains(err.Error(), "geheim") {
				t.Errorf("%d: the password is in the message: %v", status, err)
			}
			if status/100 == 3 && !strings.Contains(err.Error(), "https://elsewhere/r/") {
				t.Errorf("%d: %v does not say where to", status, err)
			}
		}
	}
}

// TestRanges asks for bytes 100 to 199 and gets all kinds of answers.
func TestRanges(t *testing.T) {
	file := backendtest.Content(1, 1000)
	part := func(w http.ResponseWriter, contentRange string, body []byte) {
		w.Header().Set("Content-Range", contentRange)
		w.WriteHeader(http.StatusPartialContent)
		w.Write(body)
	}
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		good   bool
		class  error
	}{
		"right":             {answer: func(w http.ResponseWriter) { part(w, "bytes 100-199/1000", file[100:200]) }, good: true},
		"total unknown":     {answer: func(w http.ResponseWriter) { part(w, "bytes 100-199/*", file[100:200]) }, good: true},
		"end of file":       {answer: func(w http.ResponseWriter) { part(w, "bytes 100-149/150", file[100:150]) }, class: backend.ErrShort},
		"shortened":         {answer: func(w http.ResponseWriter) { part(w, "bytes 100-149/1000", file[100:150]) }},
		"elsewhere":         {answer: func(w http.ResponseWriter) { part(w, "bytes 0-99/1000", file[:100]) }},
		"too much":          {answer: func(w http.ResponseWriter) { part(w, "bytes 100-299/1000", file[100:300]) }},
		"more than it says": {answer: func(w http.ResponseWriter) { part(w, "bytes 100-199/1000", file[100:300]) }},
		"no range":          {answer: func(w http.ResponseWriter) { part(w, "", file[100:200]) }},
		"no numbers":        {answer: func(w http.ResponseWriter) { part(w, "bytes a-b/c", file[100:200]) }},
		"whole file":        {answer: func(w http.ResponseWriter) { w.Write(file) }},
		"no content":        {answer: func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }},
		"body cut": {answer: func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			part(w, "bytes 100-199/1000", file[100:150])
		}},
		"chunked and cut": {answer: func(w http.ResponseWriter) {
			part(w, "bytes 100-199/1000", file[100:120])
			w.(http.Flusher).Flush()
		}},
		"behind the end": {answer: func(w http.ResponseWriter) { w.WriteHeader(http.StatusRequestedRangeNotSatisfiable) }, class: backend.ErrShort},
	} {
		be := odd(t, func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("Range"); got != "bytes=100-199" {
				t.Errorf("%s: Range %q", name, got)
			}
			c.answer(w)
		})
		p := make([]byte, 100)
		err := be.ReadAt(t.Context(), somePack, p, 100)
		if !c.good {
			wantClass(t, name, err, c.class)
		} else if err != nil || !bytes.Equal(p, file[100:200]) {
			t.Errorf("%s: %v, or wrong bytes", name, err)
		}
	}
}

func TestReadAllOdd(t *testing.T) {
	file := backendtest.Content(1, 1000)
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		max    int64
		good   bool
		class  error
	}{
		"no length":             {answer: func(w http.ResponseWriter) { w.(http.Flusher).Flush(); w.Write(file) }, max: 1000, good: true},
		"no length and too big": {answer: func(w http.ResponseWriter) { w.(http.Flusher).Flush(); w.Write(file) }, max: 999, class: backend.ErrTooBig},
		"cut":                   {answer: func(w http.ResponseWriter) { w.Header().Set("Content-Length", "1000"); w.Write(file[:500]) }, max: 1000},
		"a part":                {answer: func(w http.ResponseWriter) { w.WriteHeader(http.StatusPartialContent); w.Write(file) }, max: 1000},
		"huge":                  {answer: func(w http.ResponseWriter) { w.Header().Set("Content-Length", "1000000000000") }, max: 1000, class: backend.ErrTooBig},
	} {
		be := odd(t, func(w http.ResponseWriter, r *http.Request) { c.answer(w) })
		got, err := be.ReadAll(t.Context(), somePack, c.max)
		if !c.good {
			wantClass(t, name, err, c.class)
		} else if err != nil || !bytes.Equal(got, file) {
			t.Errorf("%s: %v, or wrong bytes", name, err)
		}
	}
}

func TestLists(t *testing.T) {
	name := func(digit string) string { return strings.Repeat(digit, 64) }
	for what, c := range map[string]struct {
		answer string
		want   []backend.Info
		fails  bool
	}{
		"version 2":    {`[{"name":"` + name("a") + `","size":5},{"name":"` + name("b") + `","size":0}]`, []backend.Info{{Name: name("a"), SizeBytes: 5}, {Name: name("b")}}, false},
		"version 1":    {`["` + name("a") + `","` + name("b") + `","` + name("c") + `"]`, []backend.Info{{Name: name("a"), SizeBytes: 11}, {Name: name("c"), SizeBytes: 11}}, false},
		"foreign":      {`[{"name":"README","size":5},{"name":"` + name("A") + `","size":5},{"name":"../` + name("a") + `","size":5}]`, nil, false},
		"twice":        {`[{"name":"` + name("a") + `","size":5},{"name":"` + name("a") + `","size":5}]`, []backend.Info{{Name: name("a"), SizeBytes: 5}}, false},
		"empty":        {`[]`, nil, false},
		"null":         {`null`, nil, false},
		"cut":          {`[{"name":"` + name("a") + `","size":5}`, nil, true},
		"cut in entry": {`[{"name":"` + name("a") + `","si`, nil, true},
		"nothing":      {``, nil, true},
		"page":         {`<html>It works!</html>`, nil, true},
		"object":       {`{"error":"x"}`, nil, true},
	} {
		be := odd(t, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/r/data/" && r.Header.Get("Accept") == "application/vnd.x.restic.rest.v2":
				io.WriteString(w, c.answer)
			case r.Method == http.MethodHead && r.URL.Path == "/r/data/"+name("b"):
				w.WriteHeader(http.StatusNotFound)
			case r.Method == http.MethodHead:
				w.Header().Set("Content-Length", "11")
			default:
				t.Errorf("%s: %s %s", what, r.Method, r.URL)
			}
		})
		var got []backend.Info
		err := be.List(t.Context(), backend.Pack, func(info backend.Info) error { got = append(got, info); return nil })
		if c.fails {
			wantClass(t, what, err, nil)
		}
		if !c.fails && err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, %v; want %v", what, got, err, c.want)
		}
	}
}

// A list that ends with an error of a file's size is no list.
func TestListVersion1Fails(t *testing.T) {
	be := odd(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		json.NewEncoder(w).Encode([]string{somePack.Name})
	})
	err := be.List(t.Context(), backend.Pack, func(backend.Info) error { t.Error("fn was called"); return nil })
	wantClass(t, "List", err, nil)
}

// restServer keeps files as rest-server does, which refuses to replace any, and lists them in
// version 1 of the protocol.
type restServer struct {
	mu       sync.Mutex
	files    map[string][]byte
	mayErase bool
}

func (s *restServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	content, exists := s.files[r.URL.Path]
	switch {
	case strings.HasSuffix(r.URL.Path, "/"):
		names := []string{}
		for path := range s.files {
			if name, ok := strings.CutPrefix(path, r.URL.Path); ok {
				names = append(names, name)
			}
		}
		json.NewEncoder(w).Encode(names)
	case r.Method == http.MethodPost && exists:
		w.WriteHeader(http.StatusForbidden)
	case r.Method == http.MethodPost:
		s.files[r.URL.Path], _ = io.ReadAll(r.Body)
	case !exists:
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodDelete && !s.mayErase:
		w.WriteHeader(http.StatusForbidden)
	case r.Method == http.MethodDelete:
		delete(s.files, r.URL.Path)
	default:
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

// TestReplace saves over what is there, on a server that refuses that.
func TestReplace(t *testing.T) {
	for _, c := range []struct {
		stored, saved string
		mayErase      bool
		class         error
	}{
		{"whole", "whole", false, nil},
		{"who", "whole", true, nil},
		{"whole thing", "whole", true, nil},
		{"wHole", "whole", true, nil},
		{"who", "whole", false, backend.ErrDenied},
	} {
		s := &restServer{files: map[string][]byte{"/r/data/" + somePack.Name: []byte(c.stored)}, mayErase: c.mayErase}
		be := odd(t, s.ServeHTTP)
		err := be.Save(t.Context(), somePack, []byte(c.saved))
		if c.class != nil {
			wantClass(t, "Save "+c.saved+" over "+c.stored, err, c.class)
		} else if got, _ := be.ReadAll(t.Context(), somePack, 100); err != nil || string(got) != c.saved {
			t.Errorf("Save %s over %s: %v, stored is %q", c.saved, c.stored, err, got)
		}
	}
}

func TestRestServerConformance(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backend.Backend {
		return odd(t, (&restServer{files: map[string][]byte{}, mayErase: true}).ServeHTTP)
	})
}

// An upload whose connection breaks is not sent again behind our back: the retry wrapper decides that.
func TestUploadIsSentOnce(t *testing.T) {
	var posts atomic.Int64
	be := odd(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Content-Length", "1")
			return
		}
		posts.Add(1)
		io.CopyN(io.Discard, r.Body, 100_000)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	})
	if _, err := be.Stat(t.Context(), somePack); err != nil { // the connection is one that was used before
		t.Fatal(err)
	}
	wantClass(t, "Save", be.Save(t.Context(), somePack, make([]byte, 10<<20)), nil)
	if n := posts.Load(); n != 1 {
		t.Errorf("%d uploads, want 1", n)
	}
}

// An answer that comes before the file has gone is none.
func TestHastyAnswer(t *testing.T) {
	be := odd(t, func(http.ResponseWriter, *http.Request) {})
	wantClass(t, "Save", be.Save(t.Context(), somePack, make([]byte, 10<<20)), nil)
	if err := be.Save(t.Context(), somePack, nil); err != nil {
		t.Errorf("Save of nothing: %v", err)
	}
}

// After a cancelled Save nobody reads the buffer; the race detector decides.
func TestCancelledUploadLeavesTheBuffer(t *testing.T) {
	began, returned := make(chan struct{}, 1), make(chan struct{})
	be := odd(t, func(w http.ResponseWriter, r *http.Request) {
		io.CopyN(io.Discard, r.Body, 100_000)
		began <- struct{}{}
		<-returned
		io.Copy(io.Discard, r.Body)
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-began
		cancel(errors.New("enough"))
	}()
	content := make([]byte, 10<<20)
	err := be.Save(ctx, somePack, content)
	clear(content)
	close(returned)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Save: %v, want the context's error", err)
	}
}

func TestUnixSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: &restServer{files: map[string][]byte{}, mayErase: true}}
	go s.Serve(l)
	defer s.Close()
	be := opened(t, "rest:http+unix://"+socket+":/r/")
	content := []byte("through the socket")
	f := backendtest.FileOf(backend.Index, content)
	if err := be.Save(t.Context(), f, content); err != nil {
		t.Fatal(err)
	}
	if got, err := be.ReadAll(t.Context(), f, 100); err != nil || !bytes.Equal(got, content) {
		t.Errorf("ReadAll: %q, %v", got, err)
	}
	if want := "rest:http+unix://" + socket + ":/r"; be.Location() != want {
		t.Errorf("Location %q, want %q", be.Location(), want)
	}
}

// A list that is not there is an empty one only when the repository is there.
func TestListNotFound(t *testing.T) {
	for _, tc := range []struct {
		name, server string
		config       int // status of the config
		empty        bool
	}{
		{"a directory that nothing was saved in", "rest-server", http.StatusOK, true},
		{"the disk of the server is gone", "rest-server", http.StatusNotFound, false},
		{"the server is in trouble", "rest-server", http.StatusServiceUnavailable, false},
		{"the store behind rclone does not answer", "rclone/v1.60.1-DEV", http.StatusOK, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			be := odd(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Server", tc.server)
				if strings.HasSuffix(r.URL.Path, "/config") {
					w.Header().Set("Content-Length", "155")
					w.WriteHeader(tc.config)
				} else {
					w.WriteHeader(http.StatusNotFound)
				}
			})
			err := be.List(t.Context(), backend.Lock, func(backend.Info) error { return nil })
			if tc.empty && err != nil {
				t.Error(err)
			} else if !tc.empty {
				wantClass(t, "list", err, nil)
			}
		})
	}
}

// A repository whose config cannot be seen, because the store behind the server does not answer, is not
// made anew: there is no list of its keys either.
func TestCreateWithoutList(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost:
			t.Errorf("POST %s", r.URL.Path)
		case strings.HasSuffix(r.URL.Path, "/keys/"):
			w.WriteHeader(http.StatusInternalServerError)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	c, err := rest.Parse("rest:" + server.URL + "/r")
	if err != nil {
		t.Fatal(err)
	}
	c.Transport = http.DefaultTransport
	if be, err := rest.Create(t.Context(), c); err == nil {
		be.Close()
		t.Error("Create works without a list of keys")
	} else if backend.IsPermanent(err) {
		t.Errorf("create: %v, want an error that may pass", err)
	}
}

// rclone remembers files, and cannot remove one that its store has lost meanwhile.
func TestRemovedBehindRclone(t *testing.T) {
	f := backend.File{Kind: backend.Lock, Name: strings.Repeat("5e", 32)}
	for list, gone := range map[string]bool{"[]": true, fmt.Sprintf(`[{"name":%q,"size":400}]`, f.Name): false} {
		be := odd(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Server", "rclone/v1.60.1-DEV")
			if r.Method == http.MethodDelete {
				w.WriteHeader(http.StatusInternalServerError)
			} else {
				io.WriteString(w, list)
			}
		})
		err := be.Remove(t.Context(), f)
		if err == nil || errors.Is(err, backend.ErrNotExist) != gone || backend.IsPermanent(err) != gone {
			t.Errorf("remove, with the list %s: %v", list, err)
		}
	}
}

// rclone says 404 also when the store behind it refuses a range.
func TestShortOfRclone(t *testing.T) {
	name := strings.Repeat("5e", 32)
	be := odd(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "rclone/v1.60.1-DEV")
		if strings.HasSuffix(r.URL.Path, "/") {
			fmt.Fprintf(w, `[{"name":%q,"size":400}]`, name)
		} else {
			w.WriteHeader(http.StatusNotFound)
		}
	})
	f := backend.File{Kind: backend.Pack, Name: name}
	wantClass(t, "behind the end", be.ReadAt(t.Context(), f, make([]byte, 1), 400), backend.ErrShort)
	if err := be.ReadAt(t.Context(), f, make([]byte, 1), 399); err == nil || backend.IsPermanent(err) {
		t.Errorf("the last byte: %v, want an error that may pass", err)
	}
}

// rclone says 404 of a file also when the store behind it does not answer.
func TestNotFoundOfRclone(t *testing.T) {
	name := strings.Repeat("5e", 32)
	listed := fmt.Sprintf(`[{"name":%q,"size":400}]`, name)
	for what, tc := range map[string]struct {
		kind    backend.Kind
		list    string // "": 404
		found   int    // of the questions for the file this one is answered, from 1
		missing bool
	}{
		"missing":                         {backend.Pack, "[]", 0, true},
		"others are there":                {backend.Pack, strings.ReplaceAll(listed, "5e", "6f"), 0, true},
		"listed":                          {backend.Pack, listed, 0, false},
		"no list":                         {backend.Pack, "", 0, false},
		"no config":                       {backend.Config, listed, 0, true},
		"no config, no list":              {backend.Config, "", 0, false},
		"a config that is found later on": {backend.Config, listed, 2, false},
	} {
		t.Run(what, func(t *testing.T) {
			f := backend.File{Kind: tc.kind}
			if tc.kind != backend.Config {
				f.Name = name
			}
			var asked atomic.Int64
			be := odd(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Server", "rclone/v1.60.1-DEV")
				switch {
				case strings.HasSuffix(r.URL.Path, "/") && tc.list != "":
					io.WriteString(w, tc.list)
				case !strings.HasSuffix(r.URL.Path, "/") && asked.Add(1) == int64(tc.found):
					w.Header().Set("Content-Length", "155")
				default:
					w.WriteHeader(http.StatusNotFound)
				}
			})
			calls := map[string]func() error{
				"stat":   func() error { _, err := be.Stat(t.Context(), f); return err },
				"read":   func() error { return be.ReadAt(t.Context(), f, make([]byte, 1), 0) },
				"remove": func() error { return be.Remove(t.Context(), f) },
			}
			if tc.found > 0 {
				delete(calls, "read")
			}
			for op, call := range calls {
				asked.Store(0)
				switch err := call(); {
				case tc.found > 0 && err != nil:
					t.Errorf("%s: %v", op, err)
				case tc.missing && !errors.Is(err, backend.ErrNotExist):
					t.Errorf("%s: %v, want ErrNotExist", op, err)
				case !tc.missing && tc.found == 0 && (err == nil || backend.IsPermanent(err)):
					t.Errorf("%s: %v, want an error that may pass", op, err)
				}
			}
		})
	}
}

// TestRefusedAndUnknown: what a server refuses may be there already, from a Save whose answer was lost. While that cannot
// be read, the Save may be made again.
func TestRefusedAndUnknown(t *testing.T) {
	config := backend.File{Kind: backend.Config}
	for what, c := range map[string]struct {
		file  backend.File
		get   func(w http.ResponseWriter)
		class error
	}{
		"read cut":          {somePack, func(w http.ResponseWriter) { w.Header().Set("Content-Length", "5"); io.WriteString(w, "wh") }, nil},
		"read fails":        {somePack, func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) }, nil},
		"missing":           {somePack, func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }, backend.ErrDenied},
		"read refused":      {somePack, func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) }, backend.ErrDenied},
		"config, read cut":  {config, func(w http.ResponseWriter) { w.Header().Set("Content-Length", "5"); io.WriteString(w, "wh") }, nil},
		"config is there":   {config, func(w http.ResponseWriter) { io.WriteString(w, "other") }, backend.ErrExist},
		"config is missing": {config, func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }, backend.ErrDenied},
	} {
		be := odd(t, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodPost:
				io.Copy(io.Discard, r.Body)
				w.WriteHeader(http.StatusForbidden)
			case strings.HasSuffix(r.URL.Path, "/"):
				io.WriteString(w, "[]")
			case r.Method == http.MethodHead:
				w.WriteHeader(http.StatusNotFound)
			default:
				c.get(w)
			}
		})
		wantClass(t, what, be.Save(t.Context(), c.file, []byte("whole")), c.class)
	}
}

// Who gives up while the server is asked whether it has what it refuses hears of that, not of a refusal.
func TestRefusedAndCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	be := odd(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusForbidden)
			return
		}
		cancel()
		<-r.Context().Done()
	})
	if err := be.Save(ctx, somePack, []byte("whole")); !errors.Is(err, context.Canceled) || backend.IsPermanent(err) {
		t.Errorf("Save: %v, want the end of the context", err)
	}
}
