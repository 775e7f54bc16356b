// Package keyfile makes and reads key files. A key file holds the master key of a repository
// under a password; a repository may have several, for several passwords.
//
// A key file is not sealed. It is one JSON object with these fields, written in this order:
//
//	created   RFC 3339 time
//	username  who made it, and
//	hostname  where; for people only
//	kdf       "scrypt"
//	N, r, p   the costs of scrypt
//	salt      base64, 64 bytes
//	data      base64 of the sealed master key
//
// scrypt(password, salt, N, r, p) gives 64 bytes, the key that opens data:
//
//	offset  bytes  content
//	0       32     seal.Key.Encrypt
//	32      16     seal.Key.MACK
//	48      16     seal.Key.MACR
//
// The plain text of data is {"mac":{"k":…,"r":…},"encrypt":…}, three base64 strings of 16, 16
// and 32 bytes.
package keyfile

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"vitrine/repo/internal/scrypt"
	"vitrine/repo/internal/seal"
)

// Errors of Open.
var (
	// ErrWrongPassword says that the master key does not open. Damage to the salt or to the
	// sealed key cannot be told from a wrong password.
	ErrWrongPassword = errors.New("wrong password")
	// ErrCorrupt says that the bytes are not a key file this version can use.
	ErrCorrupt = errors.New("key file is corrupt")
)

const (
	kdfName   = "scrypt"
	saltBytes = 64
	// maxFileBytes is far above any real key file (about 500 bytes), and small enough to parse.
	maxFileBytes = 1 << 20
)

// file is the JSON of a key file; the order of the fields is the order on disk.
type file struct {
	Created  time.Time `json:"created"`
	Username string    `json:"username"`
	Hostname string    `json:"hostname"`

	KDF  string `json:"kdf"`
	N    int    `json:"N"`
	R    int    `json:"r"`
	P    int    `json:"p"`
	Salt []byte `json:"salt"`
	Data []byte `json:"data"`
}

// masterKey is the plain text of file.Data.
type masterKey struct {
	MAC struct {
		K []byte `json:"k"`
		R []byte `json:"r"`
	} `json:"mac"`
	Encrypt []byte `json:"encrypt"`
}

// New returns a key file that holds master under password. Two calls never give the same
// bytes: the salt is fresh.
func New(master *seal.Key, password []byte, username, hostname string, now time.Time, params Params) ([]byte, error) {
	if err := params.Check(); err != nil {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	f := file{
		Created:  now,
		Username: username,
		Hostname: hostname,
		KDF:      kdfName,
		N:        params.N,
		R:        params.R,
		P:        params.P,
		Salt:     make([]byte, saltBytes),
	}
	rand.Read(f.Salt)

	user, err := derive(password, f.Salt, params)
	if err != nil {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	m := masterKey{Encrypt: master.Encrypt[:]}
	m.MAC.K = master.MACK[:]
	m.MAC.R = master.MACR[:]
	plain, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	f.Data = user.Seal(nil, plain)
	text, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("make key file: %w", err) // a year beyond 9999
	}
	return text, nil
}

// Open returns the master key. It takes as long as the costs in the file demand, at most what
// Params.Check allows. The error is ErrWrongPassword or ErrCorrupt.
func Open(text, password []byte) (*seal.Key, error) {
	f, err := parse(text)
	if err != nil {
		return nil, err
	}
	user, err := derive(password, f.Salt, f.params())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	plain, err := user.Open(nil, f.Data)
	if err != nil {
		return nil, ErrWrongPassword
	}
	return parseMaster(plain)
}

// derive turns a password into the key that seals the master key.
func derive(password, salt []byte, params Params) (*seal.Key, error) {
	p, err := scrypt.Key(password, salt, params.N, params.R, params.P, 64)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return seal.KeyFrom([32]byte(p[:32]), [16]byte(p[32:48]), [16]byte(p[48:])), nil
}

// parse reads a key file and checks all that can be checked without a password.
func parse(text []byte) (file, error) {
	var f file
	if len(text) > maxFileBytes {
		return f, fmt.Errorf("%w: %d bytes, more than %d", ErrCorrupt, len(text), maxFileBytes)
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return f, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if f.KDF != kdfName {
		return f, fmt.Errorf("%w: key derivation %.40q, want %q", ErrCorrupt, f.KDF, kdfName)
	}
	if err := f.params().Check(); err != nil {
		return f, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if len(f.Salt) != saltBytes {
		return f, fmt.Errorf("%w: salt of %d bytes, want %d", ErrCorrupt, len(f.Salt), saltBytes)
	}
	if len(f.Data) < seal.OverheadBytes {
		return f, fmt.Errorf("%w: sealed key of %d bytes", ErrCorrupt, len(f.Data))
	}
	return f, nil
}

func (f file) params() Params { return Params{N: f.N, R: f.R, P: f.P} }

// parseMaster reads the plain text of file.Data. Its MAC was right, so what is wrong here was
// written wrong; the message must not quote it, because it is the key.
func parseMaster(plain []byte) (*seal.Key, error) {
	var m masterKey
	if json.Unmarshal(plain, &m) != nil {
		return nil, fmt.Errorf("%w: the master key is not JSON of the right shape", ErrCorrupt)
	}
	k := new(seal.Key)
	for _, part := range []struct {
		name      string
		have, dst []byte
	}{
		{"encrypt", m.Encrypt, k.Encrypt[:]},
		{"mac.k", m.MAC.K, k.MACK[:]},
		{"mac.r", m.MAC.R, k.MACR[:]},
	} {
		if len(part.have) != len(part.dst) {
			return nil, fmt.Errorf("%w: %s of the master key has %d bytes, want %d", ErrCorrupt, part.name, len(part.have), len(part.dst))
		}
		if allZero(part.have) {
			return nil, fmt.Errorf("%w: %s of the master key is all zero", ErrCorrupt, part.name)
		}
		copy(part.dst, part.have)
	}
	return k, nil
}

func allZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// Info is what a key file tells without a password.
type Info struct {
	Created  time.Time
	Username string
	Hostname string
	KDF      string
	Params   Params
}

// ParseInfo reads the open part of a key file. The error is ErrCorrupt, under the same
// conditions as that of Open as far as they do not depend on the password.
func ParseInfo(text []byte) (Info, error) {
	f, err := parse(text)
	if err != nil {
		return Info{}, err
	}
	return Info{
		Created:  f.Created,
		Username: f.Username,
		Hostname: f.Hostname,
		KDF:      f.KDF,
		Params:   f.params(),
	}, nil
}
