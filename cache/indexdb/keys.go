package indexdb

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"vitrine/repo/blob"
)

// errCorrupt marks everything in the cache that is not as it was written.
var errCorrupt = errors.New("index cache is damaged")

// blobTypes is the number of namespaces that have keys; blobs of other types are not indexed.
const blobTypes = 2

// dbKey is the masked identity of a blob, see the package comment. Compared as a 128-bit number.
type dbKey struct{ hi, lo uint64 }

func (k dbKey) less(o dbKey) bool { return k.hi < o.hi || k.hi == o.hi && k.lo < o.lo }

// entry is one place of one blob. Pack numbers count in the pack table of the run or
// generation that the entry is in.
type entry struct {
	key                         dbKey
	pack, offset, length, plain uint32
}

// entryBytes is the stored size of an entry, and its size in RAM.
const entryBytes = 32

func (e *entry) location(pack blob.ID) blob.Location {
	return blob.Location{Pack: pack, OffsetBytes: e.offset, LengthBytes: e.length, PlainBytes: e.plain}
}

// keys are the ciphers derived from the repository's secret. They are safe for parallel use.
type keys struct {
	secret [32]byte
	prf    [blobTypes]cipher.Block
	value  cipher.Block
	seal   cipher.AEAD // of CURRENT
}

func newKeys(secret [32]byte) (*keys, error) {
	k := &keys{secret: secret}
	var err error
	for i, label := range []string{"data key", "tree key"} {
		if k.prf[i], err = k.block(label); err != nil {
			return nil, err
		}
	}
	if k.value, err = k.block("value"); err != nil {
		return nil, err
	}
	k.seal, err = k.aead("current")
	return k, err
}

// randomKeys serve an index that never leaves RAM.
func randomKeys() (*keys, error) {
	var secret [32]byte
	rand.Read(secret[:])
	return newKeys(secret)
}

func (k *keys) block(label string) (cipher.Block, error) {
	key, err := hkdf.Expand(sha256.New, k.secret[:], "vitrine indexdb "+label, 32)
	if err != nil {
		return nil, fmt.Errorf("derive key of the index cache: %w", err)
	}
	return aes.NewCipher(key)
}

func (k *keys) aead(label string) (cipher.AEAD, error) {
	b, err := k.block(label)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// packSeal returns the cipher of a generation's pack table. The salt is random, so page numbers
// may serve as nonces.
func (k *keys) packSeal(salt []byte) (cipher.AEAD, error) { return k.aead("packs " + string(salt)) }

// masker computes keys and masks places. It has the buffers that AES works on, which would
// otherwise be allocated for each call; so it is for one goroutine.
type masker struct {
	*keys
	buf [16]byte
}

// key returns the key of a blob, and false for a type that has none.
func (m *masker) key(h *blob.Handle) (dbKey, bool) {
	if h.Type >= blobTypes {
		return dbKey{}, false
	}
	c := m.prf[h.Type]
	c.Encrypt(m.buf[:], h.ID[:16])
	subtle.XORBytes(m.buf[:], m.buf[:], h.ID[16:])
	c.Encrypt(m.buf[:], m.buf[:])
	return dbKey{binary.BigEndian.Uint64(m.buf[:8]), binary.BigEndian.Uint64(m.buf[8:])}, true
}

// append adds the stored form of the entry to dst.
func (m *masker) append(dst []byte, e *entry) []byte {
	dst = binary.BigEndian.AppendUint64(dst, e.key.hi)
	dst = binary.BigEndian.AppendUint64(dst, e.key.lo)
	key := dst[len(dst)-16:]
	binary.LittleEndian.PutUint32(m.buf[0:], e.pack)
	binary.LittleEndian.PutUint32(m.buf[4:], e.offset)
	binary.LittleEndian.PutUint32(m.buf[8:], e.length)
	binary.LittleEndian.PutUint32(m.buf[12:], e.plain)
	subtle.XORBytes(m.buf[:], m.buf[:], key)
	m.value.Encrypt(m.buf[:], m.buf[:])
	return append(dst, m.buf[:]...)
}

// storedKey reads the key of a stored entry, which p starts with.
func storedKey(p []byte) dbKey {
	return dbKey{binary.BigEndian.Uint64(p[:8]), binary.BigEndian.Uint64(p[8:16])}
}

// parse reads a stored entry, which p starts with.
func (m *masker) parse(p []byte) entry {
	m.value.Decrypt(m.buf[:], p[16:32])
	subtle.XORBytes(m.buf[:], m.buf[:], p[:16])
	return entry{
		key:    storedKey(p),
		pack:   binary.LittleEndian.Uint32(m.buf[0:]),
		offset: binary.LittleEndian.Uint32(m.buf[4:]),
		length: binary.LittleEndian.Uint32(m.buf[8:]),
		plain:  binary.LittleEndian.Uint32(m.buf[12:]),
	}
}
