package forge

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/klauspost/compress/zstd"
)

// Packer makes packs and index files of a repository of version 2, compressed. It is for one goroutine.
type Packer struct {
	key        Key
	repository string
	zstd       *zstd.Encoder
	buf        []byte // a compressed blob
	packs      []byte // for the index file
}

// NewPacker returns a Packer for the local repository, whose key it is.
func NewPacker(repository string, key Key) (*Packer, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, err
	}
	return &Packer{key: key, repository: repository, zstd: enc}, nil
}

// Blob is one to be packed.
type Blob struct {
	ID          [32]byte
	Plain       []byte // nil in a pack without content
	PlainBytes  int
	SealedBytes int // given in a pack without content
}

// NewBlob names what it is given.
func NewBlob(plain []byte) Blob {
	return Blob{ID: sha256.Sum256(plain), Plain: plain, PlainBytes: len(plain)}
}

// Pack stores the blobs, which are all trees or all data, as one pack.
func (p *Packer) Pack(trees bool, blobs []Blob) error {
	var pack []byte
	lengths := make([]int, len(blobs))
	for i, b := range blobs {
		p.buf = p.zstd.EncodeAll(b.Plain, p.buf[:0])
		sealed, err := p.key.Seal(p.buf)
		if err != nil {
			return err
		}
		pack, lengths[i] = append(pack, sealed...), len(sealed)
	}
	header, listed, err := p.describe(trees, blobs, lengths)
	if err != nil {
		return err
	}
	pack = append(pack, header...)
	id := sha256.Sum256(pack)
	p.list(id, listed)
	return os.WriteFile(p.path(id), pack, 0o600)
}

// HollowPack stores a pack of data that nobody can read: it is a hole with a header behind it. Its name is
// made up, too. For whoever looks at headers and sizes only it is as good as any.
func (p *Packer) HollowPack(blobs []Blob) error {
	var sum int64
	lengths := make([]int, len(blobs))
	for i, b := range blobs {
		lengths[i] = b.SealedBytes
		sum += int64(b.SealedBytes)
	}
	header, listed, err := p.describe(false, blobs, lengths)
	if err != nil {
		return err
	}
	var id [32]byte
	rand.Read(id[:])
	p.list(id, listed)
	f, err := os.OpenFile(p.path(id), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(header, sum)
	return errors.Join(err, f.Close())
}

func (p *Packer) path(id [32]byte) string {
	name := hex.EncodeToString(id[:])
	return filepath.Join(p.repository, "data", name[:2], name)
}

// describe returns the sealed header with its length, and the list of blobs for the index file.
func (p *Packer) describe(trees bool, blobs []Blob, lengths []int) (header, listed []byte, err error) {
	kind, code := "data", byte(2) // compressed data; 3 is compressed trees
	if trees {
		kind, code = "tree", 3
	}
	offset := 0
	for i, b := range blobs {
		header = append(header, code)
		header = binary.LittleEndian.AppendUint32(header, uint32(lengths[i]))
		header = binary.LittleEndian.AppendUint32(header, uint32(b.PlainBytes))
		header = append(header, b.ID[:]...)
		if i > 0 {
			listed = append(listed, ',')
		}
		listed = hex.AppendEncode(append(listed, `{"id":"`...), b.ID[:])
		listed = append(listed, `","type":"`+kind+`","offset":`...)
		listed = strconv.AppendInt(listed, int64(offset), 10)
		listed = append(listed, `,"length":`...)
		listed = strconv.AppendInt(listed, int64(lengths[i]), 10)
		listed = append(listed, `,"uncompressed_length":`...)
		listed = strconv.AppendInt(listed, int64(b.PlainBytes), 10)
		listed = append(listed, '}')
		offset += lengths[i]
	}
	sealed, err := p.key.Seal(header)
	return binary.LittleEndian.AppendUint32(sealed, uint32(len(sealed))), listed, err
}

func (p *Packer) list(id [32]byte, blobs []byte) {
	if len(p.packs) > 0 {
		p.packs = append(p.packs, ',')
	}
	p.packs = fmt.Appendf(p.packs, `{"id":"%x","blobs":[%s]}`, id, blobs)
}

// Index stores an index file of the packs since the last one.
func (p *Packer) Index() error {
	plain := fmt.Appendf(nil, `{"packs":[%s]}`, p.packs)
	p.packs = p.packs[:0]
	return p.File("index", plain)
}

// File stores one of the JSON files of the repository, compressed.
func (p *Packer) File(dir string, plain []byte) error {
	sealed, err := p.key.Seal(p.zstd.EncodeAll(plain, []byte{2})) // version of the encoding
	if err != nil {
		return err
	}
	return Store(p.repository, dir, sealed)
}
