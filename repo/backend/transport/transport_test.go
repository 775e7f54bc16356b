package transport_test

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"sync"
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

	other := pemFile(t, otherCertificate(t))
	for name, o := range map[string]transport.Options{
		"cacert": {CACertFiles: []string{ca}}, "the first of two": {CACertFiles: []string{ca, other}},
		"the second of two": {CACertFiles: []string{other, ca}}, "insecure": {Insecure: true},
	} {
		if proto, err := get(t, o, server.URL); err != nil || proto != "HTTP/2.0" {
			t.Errorf("%s: %s, %v", name, proto, err)
		}
	}
	if _, err := get(t, transport.Options{}, server.URL); !errors.Is(err, backend.ErrUntrusted) || !strings.Contains(err.Error(), "--cacert") {
		t.Errorf("unknown authority: %v", err)
	}
	if _, err := get(t, transport.Options{CACertFiles: []string{other}}, server.URL); !errors.Is(err, backend.ErrUntrusted) || !strings.HasSuffix(err.Error(), "none of the certificates in the files of --cacert is that of its authority") {
		t.Errorf("another authority: %v", err)
	}
	byName := strings.Replace(server.URL, "127.0.0.1", "localhost", 1) // the certificate is for the address and example.com
	if _, err := get(t, transport.Options{CACertFiles: []string{ca}}, byName); !errors.Is(err, backend.ErrUntrusted) || !strings.HasSuffix(err.Error(), "write the host in the location as the certificate names it") {
		t.Errorf("another host: %v", err)
	}
	if _, err := get(t, transport.Options{}, strings.Replace(server.URL, "https:", "http:", 1)); !errors.Is(err, backend.ErrDenied) || !strings.Contains(err.Error(), "write https:// instead") {
		t.Errorf("http to a server with TLS: %v", err)
	}
	rt, err := transport.New(transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&http.Client{Transport: rt}).Head(strings.Replace(server.URL, "https:", "http:", 1)); !errors.Is(err, backend.ErrDenied) || !strings.Contains(err.Error(), "write https:// instead") {
		t.Errorf("HEAD by http to a server with TLS: %v", err)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	if _, err := get(t, transport.Options{}, strings.Replace(plain.URL, "http:", "https:", 1)); !errors.Is(err, backend.ErrDenied) {
		t.Errorf("no TLS: %v", err)
	}
}

// otherCertificate is one that no server here has.
func otherCertificate(t *testing.T) *pem.Block {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "other"}, IsCA: true, BasicConstraintsValid: true}
	raw, err := x509.CreateCertificate(nil, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return &pem.Block{Type: "CERTIFICATE", Bytes: raw}
}

// TestTellsTLS: a server that wants TLS is recognized, whatever it answers, and nothing is lost of what is not that.
func TestTellsTLS(t *testing.T) {
	for answer, wants := range map[string]bool{
		"HTTP/1.1 400 Bad Request\r\nContent-Length: 47\r\n\r\nThe plain HTTP request was sent to HTTPS port..": true,
		"\x15\x03\x01\x00\x02\x02\x16": true,
		"HTTP/1.1 400 Bad Request\r\nContent-Length: 4000\r\n\r\n" + strings.Repeat("four", 1000): false,
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 4096))
			io.WriteString(conn, answer)
			conn.Close()
		}()
		rt, err := transport.New(transport.Options{})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: rt}).Get("http://" + listener.Addr().String())
		listener.Close()
		if got := errors.Is(err, backend.ErrDenied) && strings.Contains(err.Error(), "write https:// instead"); got != wants {
			t.Errorf("%.50q: %v", answer, err)
		}
		if err == nil {
			if body, err := io.ReadAll(resp.Body); err != nil || len(body) != 4000 {
				t.Errorf("%.50q: %d bytes of the body, %v", answer, len(body), err)
			}
			resp.Body.Close()
		}
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
	o := transport.Options{CACertFiles: []string{pemFile(t, ca)}}
	if _, err := get(t, o, server.URL); !errors.Is(err, backend.ErrDenied) || !strings.Contains(err.Error(), "--tls-client-cert") {
		t.Errorf("without a certificate: %v", err)
	}
	o.ClientCertFile = pemFile(t, ca, &pem.Block{Type: "PRIVATE KEY", Bytes: key})
	if _, err := get(t, o, server.URL); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
}

// TestAlerts: of what a TLS server says against us, only what is about a certificate stays so.
func TestAlerts(t *testing.T) {
	for alert, denied := range map[byte]bool{
		10: false, 20: false, 50: false, 51: false, 70: false, 80: false, 90: false, 112: false, // unexpected message, bad record MAC, … internal error
		40: true, 42: true, 43: true, 44: true, 45: true, 46: true, 48: true, 49: true, 116: true, // handshake failure, bad certificate, …
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 4096))
			conn.Write([]byte{21, 3, 3, 0, 2, 2, alert})
			io.Copy(io.Discard, conn)
			conn.Close()
		}()
		_, err = get(t, transport.Options{}, "https://"+listener.Addr().String())
		listener.Close()
		if err == nil || !strings.Contains(err.Error(), "remote error: tls: ") {
			t.Errorf("alert %d: %v", alert, err)
		} else if errors.Is(err, backend.ErrDenied) != denied || backend.IsPermanent(err) != denied || strings.Contains(err.Error(), "--tls-client-cert") != denied {
			t.Errorf("alert %d: %v; want a refusal with a hint: %v", alert, err, denied)
		}
	}
}

// TestKeepsConnections: after a burst as many connections stay open as there are requests at a time.
func TestKeepsConnections(t *testing.T) {
	const parallel = 100
	var opened atomic.Int64
	var together sync.WaitGroup
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		together.Done()
		together.Wait()
	}))
	defer server.Close()
	rt, err := transport.New(transport.Options{Connections: parallel, WrapConn: func(c net.Conn) net.Conn { opened.Add(1); return c }})
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: rt}
	defer client.CloseIdleConnections()
	for range 2 {
		together.Add(parallel)
		idle := make(chan struct{}, 2*parallel) // has a token for each connection that is kept for later
		trace := &httptrace.ClientTrace{PutIdleConn: func(error) { idle <- struct{}{} }}
		request, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		for range parallel {
			group.Go(func() {
				resp, err := client.Do(request)
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			})
		}
		group.Wait()
		for end := time.After(20 * time.Second); len(idle) < parallel; {
			select {
			case <-end:
				t.Fatalf("%d of %d connections are kept", len(idle), parallel)
			case <-time.After(time.Millisecond):
			}
		}
	}
	if n := opened.Load(); n != parallel {
		t.Errorf("%d connections for two bursts of %d requests", n, parallel)
	}
}

func TestBadFiles(t *testing.T) {
	empty := pemFile(t)
	for name, o := range map[string]transport.Options{
		"--cacert":          {CACertFiles: []string{empty}},
		"--cacert ":         {CACertFiles: []string{empty + ".missing"}},
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
	const limit = time.Second // much longer than a busy machine takes between two bytes
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
			for range 8 {
				time.Sleep(limit / 6)
				io.WriteString(w, "x")
				w.(http.Flusher).Flush()
			}
		}
	}))
	defer server.Close()
	defer close(over)
	for path, fails := range map[string]bool{"/silent": true, "/half": true, "/slow": false} {
		_, err := get(t, transport.Options{StuckAfter: limit}, server.URL+path)
		for attempt := 1; err != nil && !fails && attempt < 5; attempt++ { // the machine may stall: one that moves must get through now and then
			_, err = get(t, transport.Options{StuckAfter: limit}, server.URL+path)
		}
		if (err != nil) != fails || fails && !strings.Contains(err.Error(), "no byte has moved") {
			t.Errorf("%s: error %v", path, err)
		}
	}
}

// lossy is a connection on which nothing arrives any more once it is dead.
type lossy struct {
	net.Conn
	dead *atomic.Bool
}

func (c lossy) Write(p []byte) (int, error) {
	if c.dead.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// After a change of the network all connections that are kept for later are dead. The first request to find out
// is the last.
func TestStuckClosesIdleConnections(t *testing.T) {
	const limit, parallel = time.Second, 4 // much longer than a busy machine takes for an answer
	var arrived sync.WaitGroup
	arrived.Add(parallel)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/together" {
			arrived.Done()
			arrived.Wait()
		}
		w.Header().Set("Content-Length", "4")
		io.WriteString(w, "ha")
		if r.URL.Path == "/half" {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
		io.WriteString(w, "lf")
	}))
	defer server.Close()
	for _, first := range []string{"/whole", "/half"} {
		arrived = sync.WaitGroup{}
		arrived.Add(parallel)
		network := new(atomic.Bool)
		current := atomic.Pointer[atomic.Bool]{}
		current.Store(network)
		rt, err := transport.New(transport.Options{StuckAfter: limit, WrapConn: func(c net.Conn) net.Conn { return lossy{c, current.Load()} }})
		if err != nil {
			t.Fatal(err)
		}
		client := http.Client{Transport: rt}
		get := func(path string) error {
			resp, err := client.Get(server.URL + path)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.ReadAll(resp.Body)
			return err
		}
		var group sync.WaitGroup
		for range parallel {
			group.Go(func() {
				if err := get("/together"); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if first == "/whole" { // of "/half" the beginning must come
			network.Store(true)
		}
		current.Store(new(atomic.Bool))
		err1 := get(first)
		network.Store(true)
		if err2 := get("/whole"); err1 == nil || err2 != nil {
			t.Errorf("%s: %v, and then %v, want none", first, err1, err2)
		}
		client.CloseIdleConnections()
	}
}

// The resolver knows without a question that no host has an empty label in its name.
func TestUnknownHost(t *testing.T) {
	_, err := get(t, transport.Options{}, "http://nosuch..invalid/")
	if !errors.Is(err, backend.ErrNoHost) || backend.IsPermanent(err) || !strings.HasSuffix(err.Error(), "no such host: nosuch..invalid") {
		t.Errorf("%v, want one of class ErrNoHost that may pass", err)
	}
}

func TestNoSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "socket")
	_, err := get(t, transport.Options{Socket: socket}, "http://localhost/")
	if !errors.Is(err, backend.ErrNoServer) || backend.IsPermanent(err) || !strings.HasSuffix(err.Error(), "there is no socket "+socket) {
		t.Errorf("%v, want one of class ErrNoServer that may pass", err)
	}
}
