package indexdb

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// meta describes a generation; it is what CURRENT holds, and nothing inside the generation
// repeats it.
type meta struct {
	Name    string    `json:"name"` // of the directory
	Number  uint64    `json:"number"`
	Bits    uint      `json:"bits"`    // the first bits of a key are its bucket
	Entries int64     `json:"entries"` // in all buckets
	Packs   uint32    `json:"packs"`   // rows of the pack table
	Salt    []byte    `json:"salt"`    // of the pack table's key
	Files   []fileRef `json:"files"`   // index files inside; pack rows count in it
	Parts   []part    `json:"parts"`
}

// part is a file of a generation and what is checked before Badger may open it.
type part struct {
	Name      string `json:"name"`
	SizeBytes int64  `json:"size"`
	TailBytes int64  `json:"tail"` // so many last bytes have the digest below
	SHA256    []byte `json:"sha256"`
}

const (
	currentName  = "CURRENT"
	currentMagic = "vitrine index 1\n"
	genPrefix    = "gen-"
	packsName    = "packs"

	// maxCurrentBytes bounds what is read: 100 bytes for each of some hundred thousand index files.
	maxCurrentBytes = 64 << 20

	// lastBlockBytes is more than a block of a table takes, which is a bucket (maxBucketBytes)
	// and its key.
	lastBlockBytes = maxBucketBytes + 4<<10
)

// encodeCurrent returns the content of CURRENT.
func encodeCurrent(k *keys, m *meta) ([]byte, error) {
	plain, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	out := []byte(currentMagic)
	nonce := make([]byte, k.seal.NonceSize())
	rand.Read(nonce)
	out = append(out, nonce...)
	return k.seal.Seal(out, nonce, plain, []byte(currentMagic)), nil
}

// decodeCurrent opens the content of CURRENT. All errors are of class errCorrupt. What it
// returns was written by somebody who knows the repository's key, so lengths in it may be
// trusted.
func decodeCurrent(k *keys, p []byte) (*meta, error) {
	rest, ok := bytes.CutPrefix(p, []byte(currentMagic))
	if !ok || len(rest) < k.seal.NonceSize() {
		return nil, fmt.Errorf("%w: %s has no header", errCorrupt, currentName)
	}
	n := k.seal.NonceSize()
	plain, err := k.seal.Open(nil, rest[:n], rest[n:], []byte(currentMagic))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errCorrupt, currentName, err)
	}
	var m meta
	if err := json.Unmarshal(plain, &m); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errCorrupt, currentName, err)
	}
	if !strings.HasPrefix(m.Name, genPrefix) || filepath.Base(m.Name) != m.Name || m.Bits > 32 {
		return nil, fmt.Errorf("%w: %s names %q with %d bits", errCorrupt, currentName, m.Name, m.Bits)
	}
	return &m, nil
}

// readCurrent returns nil and no error when there is no generation.
func readCurrent(dir string, k *keys) (*meta, error) {
	f, err := os.Open(filepath.Join(dir, currentName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := io.ReadAll(io.LimitReader(f, maxCurrentBytes))
	if err != nil {
		return nil, err
	}
	return decodeCurrent(k, p)
}

// writeCurrent switches everybody who opens or refreshes from now on to the generation. The caller
// holds build.lock.
func writeCurrent(dir string, k *keys, m *meta) error {
	p, err := encodeCurrent(k, m)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, currentName+".tmp-")
	if err != nil {
		return err
	}
	_, err = f.Write(p)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, currentName))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// describe returns the parts of the generation in dir as they are now.
func describe(dir string) ([]part, error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var parts []part
	for _, e := range names {
		p, err := describeFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func describeFile(path string) (part, error) {
	f, err := os.Open(path)
	if err != nil {
		return part{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return part{}, err
	}
	p := part{Name: filepath.Base(path), SizeBytes: st.Size(), TailBytes: st.Size()}
	switch {
	case p.Name == packsName:
		p.TailBytes = 0 // each page is authenticated when it is read
	case filepath.Ext(p.Name) == ".sst":
		if p.TailBytes, err = tableTail(f, st.Size()); err != nil {
			return part{}, err
		}
	}
	p.SHA256, err = tailDigest(f, p.SizeBytes, p.TailBytes)
	return p, err
}

// tableTail returns how many last bytes of a table Badger reads when it opens it: the last
// block, then the index, 4 bytes index length, checksum, 4 bytes checksum length (big-endian).
func tableTail(f io.ReaderAt, size int64) (int64, error) {
	read := func(end int64) (int64, error) {
		var b [4]byte
		_, err := f.ReadAt(b[:], end-4)
		return int64(binary.BigEndian.Uint32(b[:])), err
	}
	checksum, err := read(size)
	if err != nil {
		return 0, fmt.Errorf("%w: table footer: %w", errCorrupt, err)
	}
	index, err := read(size - 4 - checksum)
	if err != nil {
		return 0, fmt.Errorf("%w: table footer: %w", errCorrupt, err)
	}
	return min(size, 4+checksum+4+index+lastBlockBytes), nil
}

func tailDigest(f io.ReaderAt, size, tail int64) ([]byte, error) {
	h := sha256.New()
	n, err := io.CopyBuffer(h, io.NewSectionReader(f, size-tail, tail), make([]byte, 256<<10))
	if err == nil && n != tail {
		err = io.ErrUnexpectedEOF
	}
	return h.Sum(nil), err
}

// verify checks that dir has exactly the parts, each of its size and with its tail: nothing
// less may be given to Badger.
func verify(dir string, parts []part) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(names) != len(parts) {
		return fmt.Errorf("%w: %s has %d files, not %d", errCorrupt, filepath.Base(dir), len(names), len(parts))
	}
	for _, want := range parts {
		if err := want.verify(dir); err != nil {
			return fmt.Errorf("%s/%s: %w", filepath.Base(dir), want.Name, err)
		}
	}
	return nil
}

func (want *part) verify(dir string) error {
	f, err := os.Open(filepath.Join(dir, want.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: file is missing", errCorrupt)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() != want.SizeBytes {
		return fmt.Errorf("%w: %d bytes, not %d", errCorrupt, st.Size(), want.SizeBytes)
	}
	digest, err := tailDigest(f, want.SizeBytes, want.TailBytes)
	if err != nil {
		return fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if !bytes.Equal(digest, want.SHA256) {
		return fmt.Errorf("%w: wrong bytes among the last %d", errCorrupt, want.TailBytes)
	}
	return nil
}
