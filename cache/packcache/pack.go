package packcache

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// blockBytes is the unit in which a pack is compared with its checksums.
const blockBytes = 16 << 10

// touchEvery is how often the date of a file in use is renewed; eviction goes by it.
const touchEvery = time.Minute

// errDamaged tells that a file of the cache is not what it was.
var errDamaged = errors.New("the cached file is damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// pack is what a process knows of a file whose content it has compared with its name.
type pack struct {
	sizeBytes int64
	sums      []uint32     // CRC-32C of each block
	touched   atomic.Int64 // when the file's date was renewed, in Unix nanoseconds
}

// describe returns what is to be known of a pack that is in memory.
func describe(content []byte) *pack {
	pk := &pack{sizeBytes: int64(len(content))}
	for block := range slices.Chunk(content, blockBytes) {
		pk.sums = append(pk.sums, crc32.Checksum(block, castagnoli))
	}
	pk.touched.Store(time.Now().UnixNano())
	return pk
}

// verify compares a file with the name of the pack. What is not the pack is of class errDamaged.
func verify(path, name string) (*pack, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() > maxFileBytes {
		return nil, fmt.Errorf("%w: %s has %d bytes", errDamaged, path, st.Size())
	}
	pk := &pack{}
	sum := sha256.New()
	buf := make([]byte, blockBytes)
	for {
		n, err := io.ReadFull(file, buf)
		if n > 0 {
			sum.Write(buf[:n])
			pk.sums = append(pk.sums, crc32.Checksum(buf[:n], castagnoli))
			pk.sizeBytes += int64(n)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		} else if err != nil {
			return nil, err
		}
	}
	if hex.EncodeToString(sum.Sum(nil)) != name {
		return nil, fmt.Errorf("%w: %s does not match its name", errDamaged, path)
	}
	pk.touched.Store(st.ModTime().UnixNano())
	return pk, nil
}

var blockBuffers = sync.Pool{New: func() any { return new([]byte) }}

// readAt fills p, which lies inside the pack, from its file.
func (pk *pack) readAt(path string, p []byte, offsetBytes int64) error {
	if len(p) == 0 {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	pk.touch(path)

	first := offsetBytes / blockBytes
	from := first * blockBytes
	to := min(pk.sizeBytes, (offsetBytes+int64(len(p))+blockBytes-1)/blockBytes*blockBytes)
	pooled := blockBuffers.Get().(*[]byte)
	defer blockBuffers.Put(pooled)
	buf := slices.Grow((*pooled)[:0], int(to-from))[:to-from]
	*pooled = buf
	if _, err := file.ReadAt(buf, from); err == io.EOF {
		return fmt.Errorf("%w: %s is shorter than it was", errDamaged, path)
	} else if err != nil {
		return err
	}
	for block := range slices.Chunk(buf, blockBytes) {
		if crc32.Checksum(block, castagnoli) != pk.sums[first] {
			return fmt.Errorf("%w: %s at %d", errDamaged, path, first*blockBytes)
		}
		first++
	}
	copy(p, buf[offsetBytes-from:])
	return nil
}

// touch renews the date of the file when that is due.
func (pk *pack) touch(path string) {
	last, now := pk.touched.Load(), time.Now()
	if now.UnixNano()-last >= int64(touchEvery) && pk.touched.CompareAndSwap(last, now.UnixNano()) {
		// It may have vanished since it was opened, and then needs no date.
		_ = os.Chtimes(path, now, now)
	}
}
