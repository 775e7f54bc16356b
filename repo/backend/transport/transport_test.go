package transport_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/backend/transport"
)

func pemFile(t *testing.T, blocks ...*pem.Block) string {
	t.Helper()
	var content []byte
	for _, b := range blocks {
		content = append(content, pem.EncodeToMemory(b)...)
	}
	name := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// get makes a request and returns the protocol of the answer.
func get(t *testing.T, o transport.Options, url string) (proto string, err error) {
	t.Helper()
	rt, err := transport.New(o)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: rt}
	defer client.CloseIdleConnections()
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	_, err = io.ReadAll(resp.Body)
	return resp.Proto, err
}

func TestCertificates(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	ca := pemFile(t, &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})

	for name, o := range map[string]transport.Options{"cacert": {CACertFile: ca}, "insecure": {Insecure: true}} {
		if proto, err := get(t, o, server.URL); err != nil || proto != "HTTP/2.0" {
			t.Errorf("%s: %s, %v", name, proto, err)
		}
	}
	if _, err := get(t, transport.Options{}, server.URL); !errors.Is(err, backend.ErrUntrusted) || !strings.Contains(err.Error(), "--cacert") {
		t.Errorf("unknown authority: %v", err)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	if _, err := get(t, transport.Options{}, strings.Replace(plain.URL, "http:", "https:", 1)); !errors.Is(err, backend.ErrDenied) {
		t.Errorf("no TLS: %v", err)
	}
}

func TestClientCertificate(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	defer server.Close()
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	ca := &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}
	o := transport.Options{CACertFile: pemFile(t, ca)}
	if _, err := get(t, o, server.URL); !errors.Is(err, backend.ErrDenied) || !strings.Contains(err.Error(), "--tls-client-cert") {
		t.Errorf("without a certificate: %v", err)
	}
	o.ClientCertFile = pemFile(t, ca, &pem.Block{Type: "PRIVATE KEY", Bytes: key})
	if _, err := get(t, o, server.URL); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
}

func TestBadFiles(t *testing.T) {
	empty := pemFile(t)
	for name, o := range map[string]transport.Options{
		"--cacert":          {CACertFile: empty},
		"--cacert ":         {CACertFile: empty + ".missing"},
		"--tls-client-cert": {ClientCertFile: empty},
	} {
		if _, err := transport.New(o); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(name)) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestWrapConn(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	var wrapped atomic.Int64
	o := transport.Options{WrapConn: func(c net.Conn) net.Conn { wrapped.Add(1); return c }}
	if _, err := get(t, o, server.URL); err != nil || wrapped.Load() != 1 {
		t.Errorf("%d connections were wrapped, %v", wrapped.Load(), err)
	}
}

// TestStuck: a request that moves may take longer than the limit, one that does not may not.
func TestStuck(t *testing.T) {
	const limit = 200 * time.Millisecond
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/silent":
			<-over
		case "/half":
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			<-over
		case "/slow":
			for range 6 {
				time.Sleep(limit / 3)
				io.WriteString(w, "x")
				w.(http.Flusher).Flush()
			}
		}
	}))
	defer server.Close()
	defer close(over)
	for path, fails := range map[string]bool{"/silent": true, "/half": true, "/slow": false} {
		_, err := get(t, transport.Options{StuckAfter: limit}, server.URL+path)
		if (err != nil) != fails || fails && !strings.Contains(err.Error(), "no byte has moved") {
			t.Errorf("%s: error %v", path, err)
		}
	}
}
