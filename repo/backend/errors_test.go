package backend_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"vitrine/repo/backend"
)

func TestIsPermanent(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{io.ErrUnexpectedEOF, false},
		{context.DeadlineExceeded, false},
		{errors.New("503 Service Unavailable"), false},
		{fmt.Errorf("%w: nosuch.invalid", backend.ErrNoHost), false},
		{backend.ErrNotExist, true},
		{fmt.Errorf("read pack/12: %w", backend.ErrShort), true},
		{fmt.Errorf("save pack/12: 403 Forbidden: %w", backend.ErrDenied), true},
		{fmt.Errorf("stat config: %w: %w", backend.ErrUntrusted, errors.New("x509: unknown authority")), true},
		{errors.Join(io.EOF, backend.ErrName), true},
	} {
		if got := backend.IsPermanent(c.err); got != c.want {
			t.Errorf("IsPermanent(%v) = %v, want %v", c.err, got, c.want)
		}
	}
}
