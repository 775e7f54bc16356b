package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/linetest"
	"vitrine/repo/backend/s3/miniotest"
)

// TestCutConnection cuts the answers after more and more bytes: until the last one, each call is a
// transient error.
func TestCutConnection(t *testing.T) {
	server := miniotest.Start(t)
	miniotest.Setenv(t)
	content := backendtest.Content(1, 50_000)
	f := backendtest.FileOf(backend.Pack, content)
	if err := create(t, config(t, server, "cut/repo")).Save(t.Context(), f, content); err != nil {
		t.Fatal(err)
	}
	for _, after := range []int64{0, 10, 200, 2000, 20_000, 50_000} {
		line := linetest.New(t, server.Addr, linetest.Truncate(after, 1))
		c, err := Parse("s3:http://" + line.Addr + "/cut/repo")
		if err != nil {
			t.Fatal(err)
		}
		c.Region = "us-east-1"
		be, err := Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 40_000)
		_, readAll := be.ReadAll(t.Context(), f, 1<<20)
		calls := map[string]error{"read all": readAll}
		if after <= int64(len(p)) {
			calls["read a range"] = be.ReadAt(t.Context(), f, p, 5000)
		}
		if after <= 200 {
			calls["save"] = be.Save(t.Context(), f, content)
			calls["list"] = be.List(t.Context(), backend.Pack, func(backend.Info) error { return nil })
			calls["remove"] = be.Remove(t.Context(), f)
		}
		for what, err := range calls {
			if err == nil || backend.IsPermanent(err) {
				t.Errorf("%s, cut after %d bytes: %v, want a transient error", what, after, err)
			}
		}
		be.Close()
	}
}

// fake opens a backend on a server that answers as the test says.
func fake(t *testing.T, answer http.HandlerFunc) backend.Backend {
	t.Helper()
	miniotest.Setenv(t)
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	c, err := Parse("s3:" + server.URL + "/bucket")
	if err != nil {
		t.Fatal(err)
	}
	c.Region = "us-east-1"
	be, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { be.Close() })
	return be
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>%s</Message><RequestId>R1</RequestId></Error>", code, message)
}

// TestAnswers gives each answer to a ReadAt and looks at the class, the words and the number of requests.
func TestAnswers(t *testing.T) {
	f := backendtest.FileOf(backend.Pack, []byte("x"))
	for _, c := range []struct {
		status int
		code   string
		class  error // nil: transient
		word   string
	}{
		{503, "SlowDown", nil, "SlowDown: told"},
		{500, "InternalError", nil, "told"},
		{507, "XMinioStorageFull", backend.ErrFull, "make room"},
		{429, "TooManyRequests", nil, "told"},
		{408, "RequestTimeout", nil, "told"},
		{400, "RequestTimeout", nil, "told"},
		{409, "OperationAborted", nil, "told"},
		{404, "NoSuchKey", backend.ErrNotExist, "told"},
		{404, "NoSuchBucket", backend.ErrNotExist, "name of the bucket"},
		{416, "InvalidRange", backend.ErrShort, "told"},
		{403, "AccessDenied", backend.ErrDenied, "permissions"},
		{403, "InvalidAccessKeyId", backend.ErrDenied, "AWS_ACCESS_KEY_ID"},
		{403, "SignatureDoesNotMatch", backend.ErrDenied, "AWS_SECRET_ACCESS_KEY"},
		{403, "RequestTimeTooSkewed", backend.ErrDenied, "clock"},
		{403, "InvalidObjectState", backend.ErrDenied, "archive"},
		{400, "SomethingNew", backend.ErrDenied, "told [request R1]"},
		{301, "PermanentRedirect", backend.ErrDenied, "region"},
	} {
		var requests atomic.Int64
		be := fake(t, func(w http.ResponseWriter, _ *http.Request) {
			requests.Add(1)
			fail(w, c.status, c.code, "told")
		})
		err := be.ReadAt(t.Context(), f, make([]byte, 1), 0)
		if c.class == nil && (err == nil || backend.IsPermanent(err)) || c.class != nil && !errors.Is(err, c.class) {
			t.Errorf("%d %s: %v, want class %v", c.status, c.code, err, c.class)
		}
		if err != nil && (!strings.Contains(err.Error(), c.word) || !strings.Contains(err.Error(), f.String())) {
			t.Errorf("%d %s: %q lacks %q or the file", c.status, c.code, err, c.word)
		}
		want := int64(1)
		if c.code == "NoSuchKey" {
			want = 2 // whether it is listed
		}
		if n := requests.Load(); n != want {
			t.Errorf("%d %s: %d requests, want %d", c.status, c.code, n, want)
		}
	}
}

// TestWebPage answers as a proxy does that has nothing to do with S3.
func TestWebPage(t *testing.T) {
	be := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprint(w, "<html>\n<p>"+strings.Repeat("no\x00\xff way\n", 10_000))
	})
	_, err := be.ReadAll(t.Context(), backend.File{Kind: backend.Config}, 100)
	if err == nil || backend.IsPermanent(err) || len(err.Error()) > 2*maxMessageBytes || strings.ContainsAny(err.Error(), "\n\x00") || !utf8.ValidString(err.Error()) {
		t.Errorf("error of %d bytes: %q", len(fmt.Sprint(err)), err)
	}
}

// TestRangesAreChecked lets the server give other bytes than were asked for.
func TestRangesAreChecked(t *testing.T) {
	content := backendtest.Content(1, 1000)
	f := backendtest.FileOf(backend.Pack, content)
	for name, c := range map[string]struct {
		contentRange string
		body         []byte
		class        error // nil: transient
	}{
		"right":               {"bytes 100-199/1000", content[100:200], errNone},
		"range is ignored":    {"", content, nil},
		"other range":         {"bytes 0-99/1000", content[:100], nil},
		"shorter range":       {"bytes 100-150/1000", content[100:151], nil},
		"shorter body":        {"bytes 100-199/1000", content[100:150], nil},
		"end of the file":     {"bytes 100-149/150", content[100:150], backend.ErrShort},
		"no size":             {"bytes 100-199/*", content[100:200], nil},
		"nonsense":            {"pages 1-2", content[100:200], nil},
		"nothing, and no end": {"bytes 100-199/1000", nil, nil},
	} {
		be := fake(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Last-Modified", "Wed, 21 Oct 2026 07:28:00 GMT")
			if got := r.Header.Get("Range"); got != "bytes=100-199" {
				t.Errorf("%s: the range of the request is %q", name, got)
			}
			if c.contentRange != "" {
				w.Header().Set("Content-Range", c.contentRange)
				w.WriteHeader(http.StatusPartialContent)
			}
			w.Write(c.body)
		})
		p := make([]byte, 100)
		err := be.ReadAt(t.Context(), f, p, 100)
		switch {
		case c.class == errNone:
			if err != nil || !bytes.Equal(p, content[100:200]) {
				t.Errorf("%s: %v", name, err)
			}
		case c.class != nil && !errors.Is(err, c.class), c.class == nil && (err == nil || backend.IsPermanent(err)):
			t.Errorf("%s: %v, want class %v", name, err, c.class)
		}
	}
}

// errNone stands for no error in tables where nil means a transient one.
var errNone = errors.New("no error at all")

// TestChecksums looks at what a Save sends, and makes the server refuse it.
func TestChecksums(t *testing.T) {
	content := []byte("content")
	var class, sum, md5sum string
	status := http.StatusOK
	be := fake(t, func(w http.ResponseWriter, r *http.Request) {
		class, sum, md5sum = r.Header.Get("X-Amz-Storage-Class"), r.Header.Get("X-Amz-Content-Sha256"), r.Header.Get("Content-Md5")
		if status != http.StatusOK {
			fail(w, status, "BadDigest", "told")
		}
	}).(*Backend)
	be.cfg.StorageClass = "STANDARD_IA"
	for kind, want := range map[backend.Kind]string{backend.Pack: "STANDARD_IA", backend.Index: "", backend.Lock: ""} {
		f := backendtest.FileOf(kind, content)
		if err := be.Save(t.Context(), f, content); err != nil {
			t.Fatal(err)
		}
		if class != want || sum != f.Name || md5sum != "" {
			t.Errorf("%v: storage class %q, SHA-256 %q, MD5 %q", kind, class, sum, md5sum)
		}
	}
	status = http.StatusBadRequest
	err := be.Save(t.Context(), backendtest.FileOf(backend.Pack, content), content)
	if err == nil || backend.IsPermanent(err) || !strings.Contains(err.Error(), "BadDigest") {
		t.Errorf("a wrong checksum: %v", err)
	}
}

// TestMD5 saves on servers that want an MD5, each with the words of its own.
func TestMD5(t *testing.T) {
	for code, message := range map[string]string{
		"InvalidRequest":    "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters",
		"MissingContentMD5": "Missing required header for this request: Content-Md5.",
	} {
		var md5s []string
		be := fake(t, func(w http.ResponseWriter, r *http.Request) {
			sum := r.Header.Get("Content-Md5")
			if md5s = append(md5s, sum); sum == "" {
				fail(w, http.StatusBadRequest, code, message)
			}
		})
		for range 2 {
			content := []byte("content")
			if err := be.Save(t.Context(), backendtest.FileOf(backend.Lock, content), content); err != nil {
				t.Errorf("%s: %v", code, err)
			}
		}
		const sum = "mgNkuembtIDdJeHwKEyFVQ=="
		if diff := cmp.Diff([]string{"", sum, sum}, md5s); diff != "" {
			t.Errorf("%s: the MD5s sent (-want +got):\n%s", code, diff)
		}
	}
	miniotest.Setenv(t)
	for name, c := range map[string]Config{
		"anonymous": {Endpoint: "127.0.0.1:1", Bucket: "b", Insecure: true, Anonymous: true},
		"Google":    {Endpoint: "storage.googleapis.com", Bucket: "b"},
	} {
		b, err := open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if !b.wantsMD5.Load() {
			t.Errorf("%s: without MD5 nothing tells the server that content is broken", name)
		}
	}
}

// noObject answers a HEAD, which has no body, as a server of S3 does: with the ID of the request.
func noObject(w http.ResponseWriter) {
	w.Header().Set("X-Amz-Request-Id", "R1")
	w.WriteHeader(http.StatusNotFound)
}

// TestConfigWithoutCondition saves config on a server that knows no If-None-Match, and on one
// where somebody else was faster.
func TestConfigWithoutCondition(t *testing.T) {
	for code, want := range map[string]error{"NotImplemented": errNone, "PreconditionFailed": backend.ErrExist, "SlowDown": nil} {
		var puts []string
		be := fake(t, func(w http.ResponseWriter, r *http.Request) {
			switch condition := r.Header.Get("If-None-Match"); {
			case r.Method == http.MethodHead:
				noObject(w)
			case condition != "":
				puts = append(puts, condition)
				fail(w, map[string]int{"NotImplemented": 501, "PreconditionFailed": 412, "SlowDown": 503}[code], code, "told")
			case r.Method == http.MethodGet: // the config of somebody else
				w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
				io.WriteString(w, "y")
			default:
				puts = append(puts, "none")
			}
		})
		err := be.Save(t.Context(), backend.File{Kind: backend.Config}, []byte("x"))
		switch {
		case want == errNone:
			if err != nil || strings.Join(puts, " ") != "* none" {
				t.Errorf("%s: %v after the conditions %q", code, err, puts)
			}
		case want != nil && !errors.Is(err, want), want == nil && (err == nil || backend.IsPermanent(err)):
			t.Errorf("%s: %v, want class %v", code, err, want)
		}
	}
}

// TestConfigSentTwice: a config that the library has sent again after a lost answer is ours. One whose bytes cannot be
// read is neither ours nor somebody else's yet.
func TestConfigSentTwice(t *testing.T) {
	for what, c := range map[string]struct {
		get  func(w http.ResponseWriter)
		want func(error) bool
	}{
		"ours":    {func(w http.ResponseWriter) { io.WriteString(w, "x") }, func(err error) bool { return err == nil }},
		"foreign": {func(w http.ResponseWriter) { io.WriteString(w, "y") }, func(err error) bool { return errors.Is(err, backend.ErrExist) }},
		"longer":  {func(w http.ResponseWriter) { io.WriteString(w, "xx") }, func(err error) bool { return errors.Is(err, backend.ErrExist) }},
		"unknown": {func(w http.ResponseWriter) { fail(w, 503, "SlowDown", "told") }, func(err error) bool { return err != nil && !backend.IsPermanent(err) }},
	} {
		be := fake(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.Method {
			case http.MethodHead:
				noObject(w)
			case http.MethodPut:
				io.Copy(io.Discard, r.Body)
				fail(w, http.StatusPreconditionFailed, "PreconditionFailed", "told")
			default:
				w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
				c.get(w)
			}
		})
		if err := be.Save(t.Context(), backend.File{Kind: backend.Config}, []byte("x")); !c.want(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestRemoveMissing: of a file that is not there the server is told all the same, so that one which lets nobody remove
// says so; what else it answers changes nothing.
func TestRemoveMissing(t *testing.T) {
	for code, want := range map[string]error{"": backend.ErrNotExist, "AccessDenied": backend.ErrDenied, "SlowDown": backend.ErrNotExist} {
		deletes := 0
		be := fake(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				noObject(w)
				return
			}
			deletes++
			if code == "" {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			fail(w, map[string]int{"AccessDenied": 403, "SlowDown": 503}[code], code, "told")
		})
		err := be.Remove(t.Context(), backendtest.FileOf(backend.Index, []byte("x")))
		if !errors.Is(err, want) || deletes != 1 {
			t.Errorf("DELETE answered with %q: %v after %d of them, want class %v after 1", code, err, deletes, want)
		}
	}
}

// TestConnections counts how many requests run at the same time.
func TestConnections(t *testing.T) {
	const limit = 3
	var running, most atomic.Int64
	be := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		n := running.Add(1)
		for {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		for end := time.Now().Add(10 * time.Second); most.Load() < limit && time.Now().Before(end); { // so many must be there at a time
			time.Sleep(time.Millisecond)
		}
		time.Sleep(10 * time.Millisecond) // and no more
		running.Add(-1)
		fail(w, 404, "NoSuchKey", "told")
	}).(*Backend)
	be.slots = make(chan struct{}, limit)
	var group sync.WaitGroup
	for i := range 12 {
		group.Go(func() {
			f := backendtest.FileOf(backend.Pack, []byte{byte(i)})
			if err := be.ReadAt(t.Context(), f, make([]byte, 1), 0); !errors.Is(err, backend.ErrNotExist) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got := most.Load(); got != limit {
		t.Errorf("%d requests at the same time, want %d", got, limit)
	}
	for range limit {
		be.slots <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := be.Stat(ctx, backend.File{Kind: backend.Config}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for a slot: %v", err)
	}
}

// TestUntrusted talks to a server whose certificate nobody signed.
func TestUntrusted(t *testing.T) {
	miniotest.Setenv(t)
	server := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	c, err := Parse("s3:" + server.URL + "/bucket")
	if err != nil {
		t.Fatal(err)
	}
	be, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	if _, err := be.Stat(t.Context(), backend.File{Kind: backend.Config}); !errors.Is(err, backend.ErrUntrusted) {
		t.Errorf("%v, want ErrUntrusted", err)
	}
}

// TestRegionIsLearned has a key that may not ask for the region of the bucket. The answer to the
// first request names it, so that error must be one after which callers try again.
func TestRegionIsLearned(t *testing.T) {
	miniotest.Setenv(t)
	content := []byte("x")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Query().Has("location"):
			fail(w, http.StatusForbidden, "AccessDenied", "told")
		case !strings.Contains(r.Header.Get("Authorization"), "/eu-central-1/"):
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, "<Error><Code>AuthorizationHeaderMalformed</Code><Message>told</Message><Region>eu-central-1</Region></Error>")
		default:
			w.Header().Set("Last-Modified", "Wed, 21 Oct 2026 07:28:00 GMT")
			w.Write(content)
		}
	}))
	t.Cleanup(server.Close)
	f := backendtest.FileOf(backend.Index, content)
	for region, learns := range map[string]bool{"": true, "us-west-1": false} {
		c, err := Parse("s3:" + server.URL + "/bucket")
		if err != nil {
			t.Fatal(err)
		}
		c.Region = region
		be, err := Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		_, err = be.ReadAll(t.Context(), f, 10)
		if err == nil || backend.IsPermanent(err) == learns {
			t.Errorf("region %q, first request: %v, want an error that may pass: %v", region, err, learns)
		}
		got, err := be.ReadAll(t.Context(), f, 10)
		if learns && (err != nil || !bytes.Equal(got, content)) {
			t.Errorf("second request: %q, %v", got, err)
		}
		if err := be.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A listing that gives a file a negative size is refused.
func TestImpossibleSize(t *testing.T) {
	f := backendtest.FileOf(backend.Index, []byte("x"))
	be := fake(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "<ListBucketResult><Contents><Key>%s</Key><Size>-5</Size><LastModified>2026-10-21T07:28:00Z</LastModified></Contents></ListBucketResult>", f.Path())
	})
	err := be.List(t.Context(), backend.Index, func(info backend.Info) error {
		t.Errorf("List tells of %+v", info)
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "size of -5") || !strings.Contains(err.Error(), f.Name) {
		t.Errorf("List: %v", err)
	}
}

// lingering is a transport that fails and still has the body, as http.RoundTripper may.
type lingering struct{ body io.Reader }

func (l *lingering) RoundTrip(req *http.Request) (*http.Response, error) {
	l.body = req.Body
	return nil, errors.New("connection reset")
}

// After a Save that failed nobody reads the buffer, which is the caller's again.
func TestFailedUploadLeavesTheBuffer(t *testing.T) {
	miniotest.Setenv(t)
	transport := &lingering{}
	be, err := Open(t.Context(), Config{Endpoint: "127.0.0.1:1", Bucket: "bucket", Region: "us-east-1", Insecure: true, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	content := backendtest.Content(1, 1000)
	if err := be.Save(t.Context(), backendtest.FileOf(backend.Pack, content), content); err == nil || transport.body == nil {
		t.Fatalf("Save with a transport that fails: %v", err)
	}
	if n, err := transport.body.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("after the Save %d bytes of it are read, %v", n, err)
	}
}

// An answer that comes before the file has gone is none.
func TestHastyAnswer(t *testing.T) {
	be := fake(t, func(http.ResponseWriter, *http.Request) {})
	content := make([]byte, 10<<20)
	if err := be.Save(t.Context(), backendtest.FileOf(backend.Pack, content), content); err == nil || backend.IsPermanent(err) {
		t.Errorf("Save: %v, want an error that may pass", err)
	}
	if err := be.Save(t.Context(), backendtest.FileOf(backend.Pack, nil), nil); err != nil {
		t.Errorf("Save of nothing: %v", err)
	}
}
