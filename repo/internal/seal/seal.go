// Package seal encrypts and authenticates the byte strings of a repository: AES-256-CTR and
// Poly1305-AES, encrypt then MAC.
//
// Layout of sealed bytes:
//
//	offset  bytes  content
//	0       16     IV, random, never all zero
//	16      n      AES-256-CTR(Encrypt, IV, plain)
//	16+n    16     Poly1305 of the n encrypted bytes, under the one-time key
//	               MACR || AES-128(MACK, IV)
//
// The IV is authenticated through the one-time key. The length of the plain bytes is not hidden.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"vitrine/repo/blob"
)

// OverheadBytes is how much longer sealed bytes are than plain ones.
const OverheadBytes = blob.SealOverheadBytes

const ivBytes = aes.BlockSize

// ErrMAC says that sealed bytes are damaged, cut off, or sealed with another key.
var ErrMAC = errors.New("message authentication failed")

// Key seals and opens. It is safe for parallel use once its fields are set; they must not
// change after the first Seal or Open, and a Key is not copied.
type Key struct {
	Encrypt [32]byte // AES-256 key
	MACK    [16]byte // AES-128 key that turns the IV into the second half of the one-time key
	MACR    [16]byte // first half of the one-time key; Poly1305 clamps it

	prepare sync.Once
	encrypt cipher.Block
	mask    cipher.Block
	vectors *vectorKey // nil where there are none
}

// NewKey returns a random key.
func NewKey() *Key {
	k := new(Key)
	rand.Read(k.Encrypt[:])
	rand.Read(k.MACK[:])
	rand.Read(k.MACR[:])
	return k
}

// KeyFrom returns the key with the given parts.
func KeyFrom(encrypt [32]byte, macK, macR [16]byte) *Key {
	return &Key{Encrypt: encrypt, MACK: macK, MACR: macR}
}

func (k *Key) ciphers() (encrypt, mask cipher.Block) {
	k.prepare.Do(func() {
		k.encrypt = mustCipher(k.Encrypt[:])
		k.mask = mustCipher(k.MACK[:])
		k.vectors = newVectorKey(k)
	})
	return k.encrypt, k.mask
}

func mustCipher(key []byte) cipher.Block {
	b, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // only the key's length can be wrong, and arrays fix that
	}
	return b
}

// vectorsFor returns what is faster with n bytes under an IV, already with one byte, if the processor has it. It does not carry
// beyond the lower half of the counter, which one message of 1 MiB in 2^48 needs.
func (k *Key) vectorsFor(iv []byte, n int) *vectorKey {
	k.ciphers()
	if binary.BigEndian.Uint64(iv[8:]) > -(uint64(n+aes.BlockSize-1) / aes.BlockSize) {
		return nil
	}
	return k.vectors
}

// crypt encrypts or decrypts src to dst, which may be src.
func (k *Key) crypt(dst, iv, src []byte) {
	if v := k.vectorsFor(iv, len(src)); v != nil {
		v.crypt(dst, iv, src)
		return
	}
	encrypt, _ := k.ciphers()
	cipher.NewCTR(encrypt, iv).XORKeyStream(dst, src)
}

// oneTime holds the one-time key of one message. It is pooled because its memory is handed to
// cipher.Block, an interface, and would be a new heap object for every message.
type oneTime struct {
	key [32]byte
	mac [macBytes]byte
}

var oneTimes = sync.Pool{New: func() any { return new(oneTime) }}

func (k *Key) oneTime(iv []byte) *oneTime {
	_, mask := k.ciphers()
	t := oneTimes.Get().(*oneTime)
	copy(t.key[:16], k.MACR[:])
	mask.Encrypt(t.key[16:], iv)
	return t
}

// release forgets the one-time key: with it a second message could be forged.
func (t *oneTime) release() {
	*t = oneTime{}
	oneTimes.Put(t)
}

// Seal appends the sealed form of plain, OverheadBytes longer, to dst. The spare capacity of
// dst must not overlap plain.
func (k *Key) Seal(dst, plain []byte) []byte {
	start := len(dst)
	end := start + len(plain) + OverheadBytes
	dst = slices.Grow(dst, end-start)[:end]
	fillIV(dst[start:start+ivBytes], func(p []byte) { rand.Read(p) })
	k.seal(dst[start:], plain)
	return dst
}

// seal completes sealed, which has its length and IV.
func (k *Key) seal(sealed, plain []byte) {
	iv, text, mac := parts(sealed)
	t := k.oneTime(iv)
	if v := k.vectorsFor(iv, len(plain)); v != nil {
		v.seal(&t.mac, text, iv, plain, &t.key)
	} else {
		k.crypt(text, iv, plain)
		sumMAC(&t.mac, text, &t.key)
	}
	copy(mac, t.mac[:])
	t.release()
}

func parts(sealed []byte) (iv, text, mac []byte) {
	end := len(sealed) - macBytes
	return sealed[:ivBytes], sealed[ivBytes:end], sealed[end:]
}

// fillIV draws until the IV is not all zero, a value that other clients refuse.
func fillIV(iv []byte, draw func([]byte)) {
	for {
		draw(iv)
		for _, b := range iv {
			if b != 0 {
				return
			}
		}
	}
}

// check returns the encrypted bytes of sealed if its MAC, compared in constant time, is right.
func (k *Key) check(sealed []byte) ([]byte, error) {
	if len(sealed) < OverheadBytes {
		return nil, fmt.Errorf("%d sealed bytes, want %d at least: %w", len(sealed), OverheadBytes, ErrMAC)
	}
	iv, text, mac := parts(sealed)
	t := k.oneTime(iv)
	if v := k.vectorsFor(iv, len(text)); v != nil {
		v.sumMAC(&t.mac, text, &t.key)
	} else {
		sumMAC(&t.mac, text, &t.key)
	}
	ok := subtle.ConstantTimeCompare(t.mac[:], mac) == 1
	t.release()
	if !ok {
		return nil, ErrMAC
	}
	return text, nil
}

// Open checks sealed and appends its plain bytes to dst. After an error, which is an ErrMAC,
// dst is returned unchanged. The spare capacity of dst must not overlap sealed.
func (k *Key) Open(dst, sealed []byte) ([]byte, error) {
	text, err := k.check(sealed)
	if err != nil {
		return dst, err
	}
	start := len(dst)
	dst = slices.Grow(dst, len(text))[:start+len(text)]
	k.crypt(dst[start:], sealed[:ivBytes], text)
	return dst, nil
}

// ErrDiffers says that sealed bytes are sound, but not those of the plain bytes they should be.
var ErrDiffers = errors.New("plain bytes differ")

// verifyBuffers hold what Verify decrypts at a time, so little that it stays in the nearest cache.
var verifyBuffers = sync.Pool{New: func() any { return new([16 << 10]byte) }}

// Verify returns nil when Open would return exactly plain, else ErrMAC or ErrDiffers.
func (k *Key) Verify(sealed, plain []byte) error {
	if len(sealed) == len(plain)+OverheadBytes {
		if v := k.vectorsFor(sealed, len(plain)); v != nil {
			return k.verifyAtOnce(v, sealed, plain)
		}
	}
	text, err := k.check(sealed)
	if err != nil {
		return err
	}
	if len(text) != len(plain) {
		return fmt.Errorf("%d bytes, want %d: %w", len(text), len(plain), ErrDiffers)
	}
	buf := verifyBuffers.Get().(*[16 << 10]byte)
	defer verifyBuffers.Put(buf)
	encrypt, _ := k.ciphers()
	stream := cipher.NewCTR(encrypt, sealed[:ivBytes])
	for at := 0; at < len(text); at += len(buf) {
		n := min(len(buf), len(text)-at)
		stream.XORKeyStream(buf[:n], text[at:at+n])
		if !bytes.Equal(buf[:n], plain[at:at+n]) {
			return differAt(at)
		}
	}
	return nil
}

func differAt(at int) error {
	return fmt.Errorf("byte %d or one soon after it: %w", at, ErrDiffers)
}

// verifyAtOnce is Verify for bytes of the right length: it decrypts while it does not know yet whether the MAC is right.
func (k *Key) verifyAtOnce(v *vectorKey, sealed, plain []byte) error {
	iv, text, mac := parts(sealed)
	t := k.oneTime(iv)
	differs := v.verify(&t.mac, text, iv, plain, &t.key)
	ok := subtle.ConstantTimeCompare(t.mac[:], mac) == 1
	t.release()
	switch {
	case !ok:
		return ErrMAC
	case differs < uint64(len(plain)):
		return differAt(int(differs))
	}
	return nil
}

// OpenInPlace checks sealed and decrypts it where it stands: the plain bytes returned alias
// sealed. After an error, which is an ErrMAC, sealed is untouched.
func (k *Key) OpenInPlace(sealed []byte) ([]byte, error) {
	text, err := k.check(sealed)
	if err != nil {
		return nil, err
	}
	k.crypt(text, sealed[:ivBytes], text)
	return text, nil
}
