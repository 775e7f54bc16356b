package backend

import (
	"errors"
	"slices"
)

// Error classes. Implementations wrap them; callers use errors.Is.
var (
	ErrNotExist = errors.New("file does not exist")
	ErrExist    = errors.New("file exists already")
	ErrShort    = errors.New("file is shorter than the range asked for")
	ErrTooBig   = errors.New("file is larger than allowed")
	ErrReadOnly = errors.New("backend is read-only")
	ErrName     = errors.New("not a name of a repository file")

	// ErrDenied: wrong credentials, something that is not allowed, or a request that the store
	// will not understand the next time either.
	ErrDenied = errors.New("the store refuses")

	// ErrFull: there is no room for what is to be stored, and waiting makes none.
	ErrFull = errors.New("the store is full")

	// ErrUntrusted: the other side cannot show that it is who it should be.
	ErrUntrusted = errors.New("the server's certificate or key is not trusted")
)

var permanent = []error{ErrNotExist, ErrExist, ErrShort, ErrTooBig, ErrReadOnly, ErrName, ErrDenied, ErrFull, ErrUntrusted}

// IsPermanent tells whether the same call would end the same way if it were made again: the error
// is of one of the classes above. Any other error counts as transient, also a context's, because it
// may be that of a time limit further down; who retries looks at his own context first.
func IsPermanent(err error) bool {
	return slices.ContainsFunc(permanent, func(class error) bool { return errors.Is(err, class) })
}
