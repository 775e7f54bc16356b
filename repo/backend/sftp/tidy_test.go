package sftp_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/linetest"
	"vitrine/repo/backend/sftp"
	"vitrine/repo/backend/sftp/sshdtest"
)

// mayBeLeft is said of a temporary file that is given up.
const mayBeLeft = "a temporary file may be left on the server"

// record is what a backend logs.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

// givenUp returns how many temporary files have been given up.
func (r *record) givenUp() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Count(r.text.String(), mayBeLeft)
}

// over makes a backend in a directory, over a line with faults.
func over(t *testing.T, s *sshdtest.Server, dir string, faults ...linetest.Fault) (backend.Backend, *linetest.Line, *record) {
	t.Helper()
	line := linetest.New(t, s.Addr(), faults...)
	_, port, err := net.SplitHostPort(line.Addr)
	if err != nil {
		t.Fatal(err)
	}
	cfg, said := config(t, s, port, dir), new(record)
	cfg.Log = slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), said), nil))
	return create(t, cfg), line, said
}

// until waits for something that comes in any case, on a busy machine late.
func until(t *testing.T, what string, there func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !there(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// What a Save cannot remove because the line is away goes when it is back: after another Save, or with Close. Without a
// server Close waits for all together no longer than for one, and hardly when that has been away for long; only then
// they are given up.
func TestTemporaryFilesOfLostLine(t *testing.T) {
	for _, c := range []struct {
		name              string
		back, another     bool
		away              time.Duration // before Close
		leftBefore, after int           // Close
		most              time.Duration // for Close
	}{
		{"Close", true, false, 0, 3, 0, 8 * time.Second},
		{"Save", true, true, 0, 0, 0, 8 * time.Second},
		{"gone", false, false, 0, 3, 3, 8 * time.Second},
		{"gone for long", false, false, 10 * time.Second, 3, 3, 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			dir := t.TempDir()
			be, line, said := over(t, sshdtest.Start(t), dir, linetest.Bandwidth(1<<20))
			var saves sync.WaitGroup
			for i := range 3 {
				saves.Go(func() {
					content := backendtest.Content(uint64(i), 8<<20) // takes some seconds
					if err := be.Save(t.Context(), backendtest.FileOf(backend.Pack, content), content); err == nil || backend.IsPermanent(err) {
						t.Errorf("Save without a line: %v", err)
					}
				})
			}
			until(t, "3 temporary files", func() bool { return len(temporary(t, dir)) == 3 })
			line.Stop()
			begin := time.Now()
			saves.Wait()
			if c.back {
				line.Resume()
				answers(t, be)
			}
			if c.another {
				content := []byte("another")
				until(t, "another Save", func() bool { return be.Save(t.Context(), backendtest.FileOf(backend.Pack, content), content) == nil })
			}
			if left := temporary(t, dir); len(left) != c.leftBefore || said.givenUp() != 0 {
				t.Errorf("before Close there are the temporary files %q, want %d; %d are given up", left, c.leftBefore, said.givenUp())
			}
			time.Sleep(time.Until(begin.Add(c.away)))
			began := time.Now()
			be.Close()
			if took := time.Since(began); took > c.most {
				t.Errorf("Close took %v, want at most %v", took, c.most)
			}
			if left := temporary(t, dir); len(left) != c.after || said.givenUp() != c.after {
				t.Errorf("after Close there are the temporary files %q, want %d; %d are given up", left, c.after, said.givenUp())
			}
		})
	}
}

// A server that has got the request to make a file and is slow may do so when the connection is lost, and even the
// removal has been answered: it is not there. Close removes it all the same.
func TestTemporaryFileMadeLate(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, before := range map[string]bool{"before Close": true, "in Close": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gate, dir := t.TempDir()+"/gate", t.TempDir()
			s := sshdtest.Start(t, fmt.Sprintf("Subsystem sftp env %s=1 %s=%s %s", plainServer, gateOfServer, gate, self))
			be, line, said := over(t, s, dir)
			if err := os.WriteFile(gate, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			saved := make(chan error, 1)
			go func() {
				content := backendtest.Content(1, 1000)
				saved <- be.Save(t.Context(), backendtest.FileOf(backend.Pack, content), content)
			}()
			until(t, "the request at the server", func() bool { _, err := os.Stat(gate); return err != nil })
			line.Cut()
			if err := <-saved; err == nil || backend.IsPermanent(err) {
				t.Errorf("Save whose line was cut: %v", err)
			}
			if left := temporary(t, dir); len(left) != 0 {
				t.Fatalf("the server has gone on: %q", left)
			}
			goOn := func() {
				if err := os.Remove(gate + stopped); err != nil {
					t.Error(err)
				}
			}
			if before {
				goOn()
				until(t, "the temporary file", func() bool { return len(temporary(t, dir)) == 1 })
				be.Close()
			} else {
				closed := make(chan error, 1)
				go func() { closed <- be.Close() }()
				time.Sleep(300 * time.Millisecond) // it has asked once
				goOn()
				<-closed
			}
			time.Sleep(300 * time.Millisecond) // for one that would come after Close
			if left := temporary(t, dir); len(left) != 0 || said.givenUp() != 0 {
				t.Errorf("temporary files are left: %q; %d are given up", left, said.givenUp())
			}
		})
	}
}

// A temporary file that the server has made, and that is not there any more, needs no other look: it may have got its name
// before the line was cut.
func TestTemporaryFileGone(t *testing.T) {
	dir := t.TempDir()
	be, line, _ := over(t, sshdtest.Start(t), dir, linetest.Bandwidth(1<<20))
	defer be.Close()
	saved := make(chan error, 1)
	go func() {
		content := backendtest.Content(1, 8<<20)
		saved <- be.Save(t.Context(), backendtest.FileOf(backend.Pack, content), content)
	}()
	name := ""
	until(t, "writes to a temporary file", func() bool { // which come after the answer that it is made
		name = strings.Join(temporary(t, dir), "\n")
		info, err := os.Stat(name)
		return err == nil && info.Size() > 0
	})
	line.Stop()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	line.Resume()
	if err := <-saved; err == nil || backend.IsPermanent(err) {
		t.Errorf("Save whose line was cut: %v", err)
	}
	if n := sftp.Leftovers(be); n != 0 {
		t.Errorf("%d temporary files are left for Close", n)
	}
}
