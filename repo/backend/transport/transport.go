// Package transport makes the HTTP connections of the stores that are reached over HTTP: one place
// for certificates and time limits.
//
// Limits: connecting 30 s, TLS 10 s, an idle connection 90 s. There is none on a whole request, since
// a large pack on a slow line may take any time; Options.StuckAfter ends one that does not move.
package transport

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"vitrine/repo/backend"
)

// Options say how the other side is reached. The zero value trusts the system's root certificates
// and waits for ever.
type Options struct {
	CACertFiles    []string // PEM; the certificates in them are trusted instead of the system's
	ClientCertFile string   // PEM with a certificate and its key, to show to the server
	Insecure       bool     // believe any certificate

	// StuckAfter ends a request of which no byte has moved for that long; 0 means never.
	StuckAfter time.Duration

	// Socket is the path of a unix socket to connect to, whatever the address says.
	Socket string

	// Connections is how many requests there are at a time. So many idle connections to a server stay open, so that a
	// burst does not end in as many handshakes; 0 means 64.
	Connections int

	// WrapConn, when it is not nil, is put around each connection, below TLS.
	WrapConn func(net.Conn) net.Conn
}

const (
	dialTime = 30 * time.Second
	tlsTime  = 10 * time.Second
	idleTime = 90 * time.Second

	defaultConnections = 64

	// pingAfter is how long an HTTP/2 connection may be silent before it is asked whether it lives.
	pingAfter = 30 * time.Second

	bufferBytes = 64 << 10
)

// New returns the round tripper, which keeps connections open and may be used in parallel. It has a
// method CloseIdleConnections, as http.Client wants it. A certificate that is not trusted is an error
// of class backend.ErrUntrusted, one of ours that the server does not take of class backend.ErrDenied,
// a name that the name server does not know of class backend.ErrNoHost, a socket that is missing of class
// backend.ErrNoServer.
func New(o Options) (http.RoundTripper, error) {
	tlsConfig, err := o.tls()
	if err != nil {
		return nil, err
	}
	perHost := cmp.Or(o.Connections, defaultConnections)
	dialer := &net.Dialer{Timeout: dialTime, KeepAlive: pingAfter}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if o.Socket != "" {
				network, address = "unix", o.Socket
			}
			conn, err := dialer.DialContext(ctx, network, address)
			if err == nil && o.WrapConn != nil {
				conn = o.WrapConn(conn)
			}
			return conn, err
		},
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: tlsTime,
		IdleConnTimeout:     idleTime,
		MaxIdleConns:        2 * perHost,
		MaxIdleConnsPerHost: perHost,
		DisableCompression:  true, // sealed bytes do not shrink, and a compressed reply has no length
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter},
		ReadBufferSize:      bufferBytes,
		WriteBufferSize:     bufferBytes,
	}
	if o.Socket != "" {
		t.Proxy = nil
	}
	return classed{EndStuck(t, o.StuckAfter), len(o.CACertFiles) > 0}, nil
}

func (o Options) tls() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.Insecure}
	if len(o.CACertFiles) > 0 {
		c.RootCAs = x509.NewCertPool()
	}
	for _, name := range o.CACertFiles {
		pem, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("--cacert: %w", err)
		}
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--cacert %s: there is no certificate in PEM form in it", name)
		}
	}
	if o.ClientCertFile != "" {
		pair, err := tls.LoadX509KeyPair(o.ClientCertFile, o.ClientCertFile)
		if err != nil {
			return nil, fmt.Errorf("--tls-client-cert %s: it must hold a certificate and its key in PEM form: %w", o.ClientCertFile, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// classed gives the errors of connecting and of the handshake their class.
type classed struct {
	http.RoundTripper
	ownRoots bool // of --cacert
}

// RoundTrip implements http.RoundTripper.
func (c classed) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(req)
	if err == nil && req.URL.Scheme == "http" && resp.StatusCode == http.StatusBadRequest && c.wantsTLS(resp) {
		resp.Body.Close()
		return nil, errWantsTLS
	}
	if err == nil {
		return resp, nil
	}
	var untrusted *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var op *net.OpError
	var name *net.DNSError
	switch {
	case errors.As(err, &name) && name.IsNotFound:
		return nil, fmt.Errorf("%w: %s", backend.ErrNoHost, name.Name)
	case errors.As(err, &op) && op.Op == "dial" && op.Net == "unix" && errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%w: there is no socket %v", backend.ErrNoServer, op.Addr)
	case errors.As(err, &untrusted):
		return nil, fmt.Errorf("%w: %w%s", backend.ErrUntrusted, untrusted.Err, c.remedy(untrusted.Err))
	case errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/":
		return nil, fmt.Errorf("%w: it does not speak TLS; write http:// instead of https://", backend.ErrDenied)
	case strings.Contains(err.Error(), `malformed HTTP response "\x15\x03`): // a TLS alert
		return nil, errWantsTLS
	case errors.As(err, &op) && refusesUs(op):
		return nil, fmt.Errorf("%w: %w; --tls-client-cert names the certificate to show to it", backend.ErrDenied, err)
	}
	return nil, err
}

// certificateAlerts are how a TLS server says that it wants another certificate of ours, or one at all: in the order
// of their numbers handshake failure, as servers do that speak TLS 1.2, bad, unsupported, revoked, expired and
// unknown certificate, unknown authority, access denied, certificate required. All others may pass.
var certificateAlerts = []tls.AlertError{40, 42, 43, 44, 45, 46, 48, 49, 116}

// refusesUs tells whether an error is such an alert. The type that it has is not exported, but it has the same words.
func refusesUs(err *net.OpError) bool {
	return err.Op == "remote error" && slices.ContainsFunc(certificateAlerts, func(a tls.AlertError) bool { return a.Error() == err.Err.Error() })
}

// remedy is what to do about a certificate that is not trusted.
func (c classed) remedy(err error) string {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority) && c.ownRoots:
		return "; none of the certificates in the files of --cacert is that of its authority"
	case errors.As(err, &authority):
		return "; name the file of its authority with --cacert"
	case errors.As(err, &host):
		return "; write the host in the location as the certificate names it"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "; the server needs a new one, or the clock of this machine is wrong"
	}
	return ""
}

var errWantsTLS = fmt.Errorf("%w: it speaks TLS; write https:// instead of http://", backend.ErrDenied)

// wantsTLS tells whether a server says so in its answer, as those written in Go, nginx and Apache do. The body
// can be read as before. The answer to a HEAD has none, so that another request is made, without credentials.
func (c classed) wantsTLS(resp *http.Response) bool {
	if asked := resp.Request; asked.Method == http.MethodHead {
		again, err := http.NewRequestWithContext(asked.Context(), http.MethodGet, asked.URL.String(), nil)
		if err != nil {
			return false
		}
		got, err := c.RoundTripper.RoundTrip(again)
		if err != nil {
			return false
		}
		defer got.Body.Close()
		return got.StatusCode == http.StatusBadRequest && c.wantsTLS(got)
	}
	start, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // an error comes again with the rest
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(start), resp.Body), resp.Body}
	text := strings.ToLower(string(start))
	return strings.Contains(text, "http request") && strings.Contains(text, "https") || // "… to an HTTPS server", "… to HTTPS port"
		strings.Contains(text, "plain http") && strings.Contains(text, "ssl-enabled")
}

// CloseIdleConnections closes the connections that no request uses.
func (c classed) CloseIdleConnections() { closeIdle(c.RoundTripper) }

func closeIdle(rt http.RoundTripper) {
	if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
