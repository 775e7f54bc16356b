// Package keyfile makes and reads key files: the master key under a password.
package keyfile

import (
	"errors"
	"time"

	"vitrine/repo/internal/seal"
)

// Errors of Open.
var (
	ErrWrongPassword = errors.New("wrong password")
	ErrCorrupt       = errors.New("key file is corrupt")
)

// Params are the costs of scrypt.
type Params struct{ N, R, P int }

// Check refuses absurd costs.
func (p Params) Check() error { panic("not yet") }

// Calibrate returns costs so that one derivation takes about target on this machine, within memoryBytes.
func Calibrate(target time.Duration, memoryBytes int) Params { panic("not yet") }

// New returns a key file that holds master under password.
func New(master *seal.Key, password []byte, username, hostname string, now time.Time, params Params) ([]byte, error) {
	panic("not yet")
}

// Open returns the master key, or ErrWrongPassword.
func Open(file, password []byte) (*seal.Key, error) { panic("not yet") }

// Info is what a key file tells without a password.
type Info struct {
	Created  time.Time
	Username string
	Hostname string
	KDF      string
	Params   Params
}

// ParseInfo reads the open part of a key file.
func ParseInfo(file []byte) (Info, error) { panic("not yet") }
