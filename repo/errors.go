package repo

import (
	"errors"
	"fmt"

	"vitrine/repo/backend"
	"vitrine/repo/internal/keyfile"
)

// Error classes; test with errors.Is. The message around them names the object.
var (
	// ErrNoRepository: there is no config file at the location.
	ErrNoRepository = errors.New("repository does not exist")
	// ErrExists: Init found a repository at the location.
	ErrExists = errors.New("repository exists already")
	// ErrWrongPassword: no key file opens with the password.
	ErrWrongPassword = keyfile.ErrWrongPassword
	// ErrVersion: the repository's format version is not one we know.
	ErrVersion = errors.New("unknown repository version")
	// ErrBlobMissing: no index file lists the blob.
	ErrBlobMissing = errors.New("blob is in no index")
	// ErrCorrupt: stored bytes are not what their name, their MAC or their format promise.
	ErrCorrupt = errors.New("corrupt")
	// ErrNotAsNamed: a stored file is not the one that its name promises, which is a hash of the content: it was not stored
	// whole, or has changed since. It is an ErrCorrupt.
	ErrNotAsNamed = fmt.Errorf("%w: content does not match its name", ErrCorrupt)
	// ErrNoMatch: no file has the ID or prefix.
	ErrNoMatch = errors.New("no match")
	// ErrAmbiguous: several files begin with the prefix.
	ErrAmbiguous = errors.New("ambiguous prefix")
	// ErrAdvised: the message says what to do about it, and needs no general advice behind it.
	ErrAdvised = errors.New("advised")
)

// Advised is err in its own words, which say what to do; it is ErrAdvised, too.
func Advised(err error) error { return backend.Classed(ErrAdvised, err) }
