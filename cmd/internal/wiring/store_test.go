package wiring

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/sftp"
)

// answers is a server that fails twice and then knows nothing; it notes who asks.
type answers struct {
	mu       sync.Mutex
	requests []string
}

func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	user, password, _ := r.BasicAuth()
	a.requests = append(a.requests, user+":"+password+" "+r.Method+" "+r.URL.Path)
	if len(a.requests) <= 2 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNotFound)
}

// A remote store gets its credentials from the environment, ours before restic's, and the URL's before
// both; it is asked again when it does not answer, and the log tells.
func TestRemoteStore(t *testing.T) {
	env := map[string]string{
		"VITRINE_REST_USERNAME": "anna", "RESTIC_REST_USERNAME": "otto", "RESTIC_REST_PASSWORD": "geheim",
	}
	for credentials, want := range map[string]string{"": "anna:geheim", "eva:x@": "eva:x"} {
		a := new(answers)
		server := httptest.NewServer(a)
		defer server.Close()
		var log bytes.Buffer
		_, err := OpenBackend(t.Context(), "rest:"+strings.Replace(server.URL, "://", "://"+credentials, 1)+"/r", StoreOptions{
			Env: func(name string) string { return env[name] },
			Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if !errors.Is(err, repo.ErrNoRepository) {
			t.Errorf("OpenBackend: %v", err)
		}
		if len(a.requests) != 3 || a.requests[2] != want+" HEAD /r/config" {
			t.Errorf("requests %q, want three and %s", a.requests, want)
		}
		if n := strings.Count(log.String(), "trying again"); n != 2 || strings.Contains(log.String(), "geheim") {
			t.Errorf("%d notes in the log, want 2 without the password:\n%s", n, log.String())
		}
	}
}

// A limit of 0 on requests that do not move waits for ever at every store.
func TestStuckForEver(t *testing.T) {
	for limit, want := range map[time.Duration]time.Duration{0: -1, time.Minute: time.Minute} {
		var c sftp.Config
		if err := tuneSFTP(t.Context(), &c, StoreOptions{Transport: TransportOptions{StuckAfter: limit}}); err != nil || c.SilentAfter != want {
			t.Errorf("%v: SilentAfter %v, %v; want %v", limit, c.SilentAfter, err, want)
		}
	}
}

// A store that answers with an error for good is asked for as long as RetryFor says.
func TestRetryFor(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	defer server.Close()
	began := time.Now()
	_, err := OpenBackend(t.Context(), "rest:"+server.URL, StoreOptions{RetryFor: time.Second})
	if err == nil || !strings.Contains(err.Error(), "502") || !strings.Contains(err.Error(), "rest:"+server.URL) || time.Since(began) > 20*time.Second { // without it minutes
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

// The limits hold on the line of a remote store and around a local one.
func TestLimits(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		switch r.Method {
		case http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case http.MethodGet:
			io.WriteString(w, "[]")
		}
	}))
	defer server.Close()
	for _, location := range []string{"rest:" + server.URL + "/r", t.TempDir() + "/r"} {
		be, err := CreateBackend(t.Context(), location, StoreOptions{UploadBytesPerSecond: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := save(t.Context(), be, make([]byte, 300<<10)); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d < 200*time.Millisecond || d > 5*time.Second {
			t.Errorf("%s: 300 KiB at 1 MiB/s took %v", location, d)
		}
		if err := be.Close(); err != nil {
			t.Error(err)
		}
	}
}

func save(ctx context.Context, be backend.Backend, content []byte) error {
	return be.Save(ctx, backend.File{Kind: backend.Index, Name: strings.Repeat("ab", 32)}, content)
}

// No location that cannot be read shows what may be its password.
func TestShownHidesPasswords(t *testing.T) {
	for _, location := range []string{
		"sftp:user:geheim@host:/srv", "sftp:user:x/geheim@host:/srv", "sftp://user:x/geheim@host//srv", "rest:http://user:x/geheim@host/",
		"rest:http://user:2024/geheim@host:8000/", "rest:http://user:2024/x/geheim@host:8000/r", "rest:http://user:2024?geheim@host/", "rest:http://user:2024#geheim@host/",
		"s3:https://key:x/\ngeheim@host/b", "s3:https://key:geheim?x/@host/b", "sftp:user:x/\ngeheim@host:/srv",
		"REST:http://user:geheim@host/", "Sftp:user:geheim@host:/srv", "HTTPS://user:geheim@host/", "RCLONE::webdav,pass=geheim:x",
		"rest:http+unix://anna:geheim%40/run/rest.sock:/r/", "rest:http+unix://anna:x/geheim@/run/rest.sock:/r/", "rest:http+unix://anna:2024/geheim@/run/rest.sock:/r/",
	} {
		_, err := OpenBackend(t.Context(), location, StoreOptions{})
		if err == nil {
			t.Errorf("%s is opened", location)
		} else if all := err.Error() + Shown(location) + PublicName(location); strings.Contains(all, "geheim") || strings.Contains(all, "x/") {
			t.Errorf("%s shows its password: %s", location, all)
		}
	}
}
