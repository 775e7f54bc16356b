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

	// ErrNoHost: the name server says that there is no such name. That is a mistake in the location, or a
	// network that comes up late, or one that is gone for a while, and so it is not permanent.
	ErrNoHost = errors.New("there is no such host")

	// ErrNoServer: nothing there answers as a server would: a program that just ends, a socket that does not exist. As
	// ErrNoHost that is most often a mistake, and may pass.
	ErrNoServer = errors.New("there is no such server")

	// ErrAway: the store was tried again for as long as it may take, and did not do what was asked. What was asked for
	// may be all right, and the next call waits as long again.
	ErrAway = errors.New("the store was waited for in vain")

	// ErrFails: the server answers that something went wrong on its side. It may pass, and so is not permanent.
	ErrFails = errors.New("the server fails")
)

// Classed is err in its own words, that also is of a class above.
func Classed(class, err error) error { return &classed{class, err} }

type classed struct{ class, err error }

func (e *classed) Error() string   { return e.err.Error() }
func (e *classed) Unwrap() []error { return []error{e.class, e.err} }

var permanent = []error{ErrNotExist, ErrExist, ErrShort, ErrTooBig, ErrReadOnly, ErrName, ErrDenied, ErrFull, ErrUntrusted}

// IsPermanent tells whether the same call would end the same way if it were made again: the error
// is of one of the classes above. Any other error counts as transient, also a context's, because it
// may be that of a time limit further down; who retries looks at his own context first.
func IsPermanent(err error) bool {
	return slices.ContainsFunc(permanent, func(class error) bool { return errors.Is(err, class) })
}
