// Package cache finds and creates the directory in which vitrine keeps what it can make again.
package cache

// DefaultBase returns the directory named by VITRINE_CACHE_DIR, RESTIC_CACHE_DIR, XDG_CACHE_HOME or HOME/.cache,
// the first that is set.
func DefaultBase(env func(string) string) (string, error) { panic("not yet") }

// Dir is the cache of one repository.
type Dir struct{}

// Open makes the directory of one repository below base.
func Open(base, repoID string) (*Dir, error) { panic("not yet") }

// Path returns the directory.
func (d *Dir) Path() string { panic("not yet") }

// Sub returns a subdirectory of the given plain name, made when missing.
func (d *Dir) Sub(name string) (string, error) { panic("not yet") }
