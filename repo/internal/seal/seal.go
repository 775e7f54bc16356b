// Package seal encrypts and authenticates the byte strings of a repository: AES-256-CTR and
// Poly1305-AES, encrypt then MAC.
//
// Layout of sealed bytes:
//
//	offset      bytes  content
//	0           16     IV, random, never all zero
//	16          n      AES-256-CTR(Encrypt, IV, plain)
//	16+n        16     Poly1305 of the n encrypted bytes, under the one-time key
//	                   MACR || AES-128(MACK, IV)
//
// The IV is authenticated through the one-time key. Length is not hidden.
package seal

import (
	"errors"

	"vitrine/repo/blob"
)

// OverheadBytes is how much longer sealed bytes are than plain ones.
const OverheadBytes = blob.SealOverheadBytes

// ErrMAC says that sealed bytes are damaged, cut off, or sealed with another key.
var ErrMAC = errors.New("message authentication failed")

// Key seals and opens. It is safe for parallel use once its fields are set; they must not
// change after the first Seal or Open. A Key must not be copied after first use.
type Key struct {
	Encrypt [32]byte // AES-256 key
	MACK    [16]byte // AES-128 key that masks the IV into the second half of the one-time key
	MACR    [16]byte // first half of the one-time key; Poly1305 clamps it
}

// NewKey returns a random key.
func NewKey() *Key { panic("not yet") }

// KeyFrom returns the key with the given parts.
func KeyFrom(encrypt [32]byte, macK, macR [16]byte) *Key {
	return &Key{Encrypt: encrypt, MACK: macK, MACR: macR}
}

// Seal appends the sealed form of plain to dst. The spare capacity of dst must not overlap plain.
func (k *Key) Seal(dst, plain []byte) []byte { panic("not yet") }

// Open checks sealed and appends its plain bytes to dst; after an error dst is returned
// unchanged. The error is ErrMAC. The spare capacity of dst must not overlap sealed.
func (k *Key) Open(dst, sealed []byte) ([]byte, error) { panic("not yet") }

// OpenInPlace checks sealed and decrypts it where it stands: the plain bytes returned alias sealed.
// After an error sealed is untouched.
func (k *Key) OpenInPlace(sealed []byte) ([]byte, error) { panic("not yet") }
