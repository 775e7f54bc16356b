package s3

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"vitrine/repo/backend"
)

// amazon is the metadata server of a container and the token service in one. Both give keys with numbers,
// which they take for lifetime.
type amazon struct {
	lifetime time.Duration

	mu       sync.Mutex
	away     bool      // the metadata server
	refusal  string    // of the token service: its code
	given    int       // keys of the container
	until    time.Time // the last of them are good
	assumed  int       // keys of the role
	problems []string
}

func (a *amazon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	expires := time.Now().Add(a.lifetime)
	switch {
	case r.URL.Path == "/container" && a.away:
		w.WriteHeader(http.StatusInternalServerError)
	case r.URL.Path == "/container":
		a.given, a.until = a.given+1, expires
		json.NewEncoder(w).Encode(map[string]any{
			"AccessKeyId": fmt.Sprintf("container-%d", a.given), "SecretAccessKey": "geheim", "Token": fmt.Sprintf("token-%d", a.given), "Expiration": expires,
		})
	case a.refusal != "":
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Code>%s</Code><Message>not you</Message></Error></ErrorResponse>`, a.refusal)
	default:
		key := fmt.Sprintf("container-%d", a.given)
		if auth := r.Header.Get("Authorization"); !strings.Contains(auth, "Credential="+key+"/") || r.Header.Get("X-Amz-Security-Token") != fmt.Sprintf("token-%d", a.given) {
			a.problems = append(a.problems, fmt.Sprintf("the role is assumed with %q, the keys of the container are %s", auth, key))
		}
		if time.Now().After(a.until) {
			a.problems = append(a.problems, "the role is assumed with keys that have expired")
		}
		a.assumed++
		fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
			<AccessKeyId>role-%d</AccessKeyId><SecretAccessKey>geheim</SecretAccessKey><Expiration>%s</Expiration>
			</Credentials></AssumeRoleResult></AssumeRoleResponse>`, a.assumed, expires.UTC().Format(time.RFC3339Nano))
	}
}

func (a *amazon) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

// inContainer starts one for a process that has nothing but the role of its container.
func inContainer(t *testing.T) *amazon {
	t.Helper()
	a := &amazon{lifetime: time.Second}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE",
		"MINIO_ROOT_USER", "MINIO_ACCESS_KEY", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"} {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.URL+"/container")
	t.Setenv("RESTIC_AWS_ASSUME_ROLE_STS_ENDPOINT", server.URL)
	return a
}

// An assumed role and the role of the container that assumes it are both renewed when they expire.
func TestRolesAreRenewed(t *testing.T) {
	for arn, keys := range map[string]string{"": "container-%d", "arn:aws:iam::1:role/backup": "role-%d"} {
		t.Run("role "+arn, func(t *testing.T) {
			a := inContainer(t)
			t.Setenv("RESTIC_AWS_ASSUME_ROLE_ARN", arn)
			creds, err := newCredentials(t.Context(), Config{})
			if err != nil {
				t.Fatal(err)
			}
			get := func() (credentials.Value, error) {
				return creds.GetWithContext(&credentials.CredContext{Context: t.Context(), Client: http.DefaultClient})
			}
			for i := 1; i <= 3; i++ {
				value, err := get()
				if want := fmt.Sprintf(keys, i); err != nil || value.AccessKeyID != want {
					t.Errorf("the keys are %q, want %q, %v", value.AccessKeyID, want, err)
				}
				time.Sleep(a.lifetime)
			}

			// Nobody takes its silence for the wish to be anonymous, and it may answer the next time.
			a.set(func() { a.away = true })
			if value, err := get(); err == nil || backend.IsPermanent(err) || strings.Contains(err.Error(), "geheim") {
				t.Errorf("with the metadata server away: %+v, %v; want an error that may pass", value, err)
			}
			a.set(func() { a.away = false })
			if value, err := get(); err != nil || value.AccessKeyID != fmt.Sprintf(keys, 4) {
				t.Errorf("after it is back the keys are %q, %v", value.AccessKeyID, err)
			}
			a.set(func() {
				for _, p := range a.problems {
					t.Error(p)
				}
			})
		})
	}
}

// A role that may not be assumed is refused for good; a token service in trouble is asked again.
func TestRoleRefused(t *testing.T) {
	a := inContainer(t)
	t.Setenv("RESTIC_AWS_ASSUME_ROLE_ARN", "arn:aws:iam::1:role/backup")
	for code, permanent := range map[string]bool{"AccessDenied": true, "InternalFailure": false} {
		a.set(func() { a.refusal = code })
		c, err := Parse("s3:http://127.0.0.1:1/bucket")
		if err != nil {
			t.Fatal(err)
		}
		be, err := Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		_, err = be.Stat(t.Context(), backend.File{})
		if err == nil || errors.Is(err, backend.ErrDenied) != permanent || !strings.Contains(err.Error(), "assume role arn:aws:iam::1:role/backup") || !strings.Contains(err.Error(), "not you") {
			t.Errorf("%s: %v, permanent wanted: %v", code, err, permanent)
		}
		if err := be.Close(); err != nil {
			t.Error(err)
		}
	}
}
