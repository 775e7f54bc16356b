package local

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"vitrine/repo/backend"
)

// classified is an error of the operating system, with its words, that also is of a class of
// package backend.
type classified struct {
	class error
	err   error
}

func (e *classified) Error() string   { return e.err.Error() }
func (e *classified) Unwrap() []error { return []error{e.class, e.err} }

// explain gives an error of the operating system its class, and a person the next step.
func (b *Backend) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &classified{backend.ErrNotExist, err}
	case errors.Is(err, fs.ErrExist):
		return &classified{backend.ErrExist, err}
	case errors.Is(err, syscall.EROFS):
		return &classified{backend.ErrReadOnly, err}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w (nothing is damaged: make room on the disk of %s and run it again)", err, b.root)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w (run it as the owner of %s)", err, b.root)
	}
	return err
}
