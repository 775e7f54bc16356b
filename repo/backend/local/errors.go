package local

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"vitrine/repo/backend"
)

// explain gives an error of the operating system its class, and a person the next step.
func (b *Backend) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := b.stillThere(); err != nil {
			return b.explain(err)
		}
		return backend.Classed(backend.ErrNotExist, err)
	case errors.Is(err, fs.ErrExist):
		return backend.Classed(backend.ErrExist, err)
	case errors.Is(err, syscall.EROFS):
		return backend.Classed(backend.ErrReadOnly, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return backend.Classed(backend.ErrFull, fmt.Errorf("%w (nothing is damaged: make room on the disk of %s and run it again)", err, b.root))
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w (another file is where a directory of the repository belongs: move it away)", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w (run it as the owner of %s)", err, b.root)
	}
	return err
}
