package sftp

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/pkg/sftp"

	"vitrine/repo/backend"
)

// Status codes of later drafts of the protocol, which some servers send. What SFTP version 3 has
// a code for comes as an error of package fs.
const (
	codeFailure = 4
	codeExists  = 11
	codeRofs    = 12
	codeNoSpace = 14
	codeQuota   = 15
)

// errLost is in the chain of every error that a connection caused and not the server's answer.
var errLost = errors.New("connection lost")

// lost tells whether the error is that of a connection, and neither the server's answer nor ours.
func lost(err error) bool {
	for _, end := range []error{sftp.ErrSSHFxConnectionLost, io.ErrUnexpectedEOF, io.ErrClosedPipe, os.ErrClosed, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// code returns the status that the server gave, 0 if none.
func code(err error) uint32 {
	var status *sftp.StatusError
	if errors.As(err, &status) {
		return status.Code
	}
	return 0
}

// explain gives an answer of the server its class, and a person the next step. A lost connection
// has no class: it is transient.
func (b *Backend) explain(err error) error {
	switch {
	case backend.IsPermanent(err):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return backend.Classed(backend.ErrNotExist, err)
	case errors.Is(err, fs.ErrPermission):
		return backend.Classed(backend.ErrDenied, fmt.Errorf("the server says %w (log in as the owner of %s)", err, b.cfg.Path))
	}
	switch code(err) {
	case codeExists:
		return backend.Classed(backend.ErrExist, err)
	case codeRofs:
		return backend.Classed(backend.ErrReadOnly, err)
	}
	return err
}

// explainWrite is explain for writing needBytes. SFTP version 3 has no code for a full disk, so the
// server is asked how much room it has.
func (b *Backend) explainWrite(vfs *sftp.StatVFS, err error, needBytes int64) error {
	switch n := code(err); {
	case n == codeNoSpace, n == codeQuota, n == codeFailure && vfs != nil && (vfs.Frsize*vfs.Bavail < uint64(needBytes) || vfs.Files > 0 && vfs.Favail == 0):
		room := ""
		if vfs != nil {
			room = fmt.Sprintf(": %d bytes and %d inodes are free", vfs.Frsize*vfs.Bavail, vfs.Favail)
		}
		return backend.Classed(backend.ErrFull, fmt.Errorf("%w (the disk of %s is full%s; nothing is damaged: make room and run it again)", err, b.cfg.Public(), room))
	case n == codeFailure:
		return fmt.Errorf("%w (the server does not say why; a quota that is used up and a damaged disk look like this)", err)
	}
	return b.explain(err)
}
