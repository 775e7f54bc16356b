// Package transport makes the HTTP connections of the stores that are reached over HTTP: one place
// for certificates and time limits.
//
// Limits: connecting 30 s, TLS 10 s, an idle connection 90 s. There is none on a whole request, since
// a large pack on a slow line may take any time; Options.StuckAfter ends one that does not move.
package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"vitrine/repo/backend"
)

// Options say how the other side is reached. The zero value trusts the system's root certificates
// and waits for ever.
type Options struct {
	CACertFile     string // PEM; its certificates are trusted instead of the system's
	ClientCertFile string // PEM with a certificate and its key, to show to the server
	Insecure       bool   // believe any certificate

	// StuckAfter ends a request of which no byte has moved for that long; 0 means never.
	StuckAfter time.Duration

	// Socket is the path of a unix socket to connect to, whatever the address says.
	Socket string

	// WrapConn, when it is not nil, is put around each connection, below TLS.
	WrapConn func(net.Conn) net.Conn
}

const (
	dialTime = 30 * time.Second
	tlsTime  = 10 * time.Second
	idleTime = 90 * time.Second

	// perHost is how many idle connections to a server stay open: as many as there are requests at
	// a time, so that a burst does not end in as many handshakes.
	perHost = 64

	// pingAfter is how long an HTTP/2 connection may be silent before it is asked whether it lives.
	pingAfter = 30 * time.Second

	bufferBytes = 64 << 10
)

// New returns the round tripper, which keeps connections open and may be used in parallel. It has a
// method CloseIdleConnections, as http.Client wants it. A certificate that is not trusted is an error
// of class backend.ErrUntrusted, one of ours that the server does not take of class backend.ErrDenied.
func New(o Options) (http.RoundTripper, error) {
	tlsConfig, err := o.tls()
	if err != nil {
		return nil, err
	}
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
	return classed{EndStuck(t, o.StuckAfter)}, nil
}

func (o Options) tls() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.Insecure}
	if o.CACertFile != "" {
		pem, err := os.ReadFile(o.CACertFile)
		if err != nil {
			return nil, fmt.Errorf("--cacert: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--cacert %s: there is no certificate in PEM form in it", o.CACertFile)
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

// classed gives the errors of the handshake their class.
type classed struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (c classed) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(req)
	if err == nil {
		return resp, nil
	}
	var untrusted *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var op *net.OpError
	switch {
	case errors.As(err, &untrusted):
		return nil, fmt.Errorf("%w: %w; name the file of its authority with --cacert", backend.ErrUntrusted, untrusted.Err)
	case errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/":
		return nil, fmt.Errorf("%w: it does not speak TLS; write http:// instead of https://", backend.ErrDenied)
	case errors.As(err, &op) && op.Op == "remote error": // a TLS alert
		return nil, fmt.Errorf("%w: %w; --tls-client-cert names the certificate to show to it", backend.ErrDenied, err)
	}
	return nil, err
}

// CloseIdleConnections closes the connections that no request uses.
func (c classed) CloseIdleConnections() { closeIdle(c.RoundTripper) }

func closeIdle(rt http.RoundTripper) {
	if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
