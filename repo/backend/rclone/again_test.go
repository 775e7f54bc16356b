package rclone_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/rclone"
)

// killChild kills the only rclone, and returns when it has ended.
func killChild(t *testing.T) {
	t.Helper()
	pids := children(t)
	if len(pids) != 1 {
		t.Fatalf("processes %v, want one", pids)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if now := children(t); len(now) == 0 || now[0] != pids[0] {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("rclone survives SIGKILL")
}

// An rclone that has ended is started again, however often, with the same store behind it.
func TestStartsAgain(t *testing.T) {
	var log bytes.Buffer
	c := config(t, "rclone::local:"+t.TempDir(), nil)
	c.Log = slog.New(slog.NewTextHandler(&log, nil))
	be, err := rclone.Create(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	content := backendtest.Content(1, 1<<20)
	f := backendtest.FileOf(backend.Pack, content)
	if err := be.Save(t.Context(), f, content); err != nil {
		t.Fatal(err)
	}
	const kills = 5
	for range kills {
		killChild(t)
		if got, err := be.ReadAll(t.Context(), f, 1<<20); err != nil || !bytes.Equal(got, content) {
			t.Errorf("after its end: %d bytes, %v", len(got), err)
		}
	}
	if n := strings.Count(log.String(), "rclone has ended and is started again"); n != kills || !strings.Contains(log.String(), "signal: killed") {
		t.Errorf("the log tells %d times of a new start:\n%s", n, log.String())
	}
}

// The call that is under way when rclone dies fails for a reason that may pass.
func TestKilledInCall(t *testing.T) {
	c := config(t, "rclone::local:"+t.TempDir(), nil)
	half, killed := make(chan struct{}), make(chan struct{})
	var conns atomic.Int64
	c.WrapConn = func(conn net.Conn) net.Conn {
		if conns.Add(1) > 1 {
			return conn
		}
		return &halted{Conn: conn, left: 1 << 20, half: half, goOn: killed}
	}
	be, err := rclone.Create(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	content := backendtest.Content(1, 64<<20)
	f := backendtest.FileOf(backend.Pack, content)
	done := make(chan error)
	go func() { done <- be.Save(t.Context(), f, content) }()
	<-half
	killChild(t)
	close(killed)
	if err := <-done; err == nil || backend.IsPermanent(err) {
		t.Errorf("Save with rclone killed: %v", err)
	}
	if err := be.Save(t.Context(), f, content); err != nil {
		t.Errorf("Save made again: %v", err)
	}
	if got, err := be.ReadAll(t.Context(), f, 64<<20); err != nil || !bytes.Equal(got, content) {
		t.Errorf("ReadAll: %d bytes, %v", len(got), err)
	}
}

// halted is a connection that stops when so many bytes have gone, until it may go on.
type halted struct {
	net.Conn
	left       int // only the one who writes uses it
	half, goOn chan struct{}
}

func (h *halted) Write(p []byte) (int, error) {
	if h.left > 0 && h.left <= len(p) {
		close(h.half)
		<-h.goOn
	}
	h.left -= len(p)
	return h.Conn.Write(p)
}

// An rclone that ends at once each time is not started without pause, and what it says is told, as an error that may
// pass for however long. When the program is gone nobody waits. And it may be well again.
func TestEndsAtOnce(t *testing.T) {
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\necho >>%[1]s/starts\nif [ -e %[1]s/bad ]; then echo the remote is gone >&2; exit 1; fi\nexec rclone \"$@\"\n", dir)
	if err := os.WriteFile(dir+"/program", []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	const timeout = 2 * time.Second
	be, err := rclone.Open(t.Context(), config(t, "rclone::local:"+t.TempDir(), map[string]string{"program": dir + "/program", "timeout": timeout.String()}))
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	if err := os.WriteFile(dir+"/bad", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	killChild(t)
	began, calls := time.Now(), 0
	for ; time.Since(began) < 2*timeout; calls++ {
		_, err = be.Stat(t.Context(), backend.File{})
		if err == nil || !strings.Contains(err.Error(), "cannot be started again") || !strings.Contains(err.Error(), "rclone says: the remote is gone") {
			t.Fatalf("Stat: %v", err)
		}
		if backend.IsPermanent(err) {
			t.Fatalf("after %v it is permanent: %v", time.Since(began), err)
		}
		time.Sleep(time.Millisecond)
	}
	starts, err := os.ReadFile(dir + "/starts")
	if n := len(starts); err != nil || n < 4 || n > 8 || calls < 100 {
		t.Errorf("%d starts in %d calls, %v", n, calls, err)
	}
	if err := os.Rename(dir+"/program", dir+"/elsewhere"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); !errors.Is(err, backend.ErrDenied); time.Sleep(10 * time.Millisecond) {
		if _, err = be.Stat(t.Context(), backend.File{}); time.Now().After(end) {
			t.Fatalf("Stat without the program: %v", err)
		}
	}
	if !strings.Contains(err.Error(), "there is no program "+dir) {
		t.Errorf("Stat without the program: %v", err)
	}
	if err := errors.Join(os.Rename(dir+"/elsewhere", dir+"/program"), os.Remove(dir+"/bad")); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err = be.Stat(t.Context(), backend.File{}); errors.Is(err, backend.ErrNotExist) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("Stat with rclone well again: %v", err)
		}
	}
}

// A call that is given up while rclone starts again does not wait for the end of one that hangs.
func TestCancelledInStart(t *testing.T) {
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nif [ -e %[1]s/hangs ]; then exec sleep 100; fi\nexec rclone \"$@\"\n", dir)
	if err := os.WriteFile(dir+"/program", []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	be, err := rclone.Open(t.Context(), config(t, "rclone::local:"+t.TempDir(), map[string]string{"program": dir + "/program"}))
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	if err := os.WriteFile(dir+"/hangs", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	killChild(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err = be.Stat(ctx, backend.File{})
	if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > 3*time.Second {
		t.Errorf("Stat with 300ms: %v after %v", err, took)
	}
}

// An rclone that takes nothing, since it has closed its standard input, is a failed start like any other, and one that
// has closed its standard output while it runs has ended.
func TestPipesClosed(t *testing.T) {
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nif [ -e %[1]s/deaf ]; then exec <&-; sleep 0.3; exit 1; fi\nexec rclone \"$@\"\n", dir)
	if err := os.WriteFile(dir+"/program", []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/deaf", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := config(t, "rclone::local:"+t.TempDir(), map[string]string{"program": dir + "/program"})
	if be, err := rclone.Open(t.Context(), c); err == nil {
		be.Close()
		t.Error("one that is deaf opens")
	}
	if err := os.Remove(dir + "/deaf"); err != nil {
		t.Fatal(err)
	}
	var last atomic.Pointer[net.Conn]
	c.WrapConn = func(conn net.Conn) net.Conn { last.Store(&conn); return conn }
	be, err := rclone.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	if err := os.WriteFile(dir+"/deaf", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	(*last.Load()).Close() // rclone may run on, and the connection carries nothing
	for range 3 {
		if _, err := be.Stat(t.Context(), backend.File{}); err == nil || errors.Is(err, backend.ErrNotExist) {
			t.Errorf("Stat with a deaf rclone: %v", err)
		}
	}
	if err := os.Remove(dir + "/deaf"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); !errors.Is(err, backend.ErrNotExist); time.Sleep(10 * time.Millisecond) {
		if _, err = be.Stat(t.Context(), backend.File{}); time.Now().After(end) {
			t.Fatalf("Stat with rclone well again: %v", err)
		}
	}
}
