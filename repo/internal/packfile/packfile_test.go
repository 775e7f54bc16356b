package packfile

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/blob"
	"vitrine/repo/internal/seal"
)

// somePack returns a pack of n blobs, every other one compressed, and its directory.
func somePack(n int, key *seal.Key) ([]byte, []blob.Entry) {
	var pack []byte
	entries := make([]blob.Entry, n)
	for i := range entries {
		e := &entries[i]
		e.Handle = blob.Handle{Type: blob.Type(i / 2 % 2), ID: blob.Hash(fmt.Append(nil, i))}
		e.OffsetBytes = uint32(len(pack))
		pack = key.Seal(pack, make([]byte, i%50))
		e.LengthBytes = uint32(len(pack)) - e.OffsetBytes
		if i%2 == 1 {
			e.PlainBytes = uint32(1000 + i)
		}
	}
	return Finish(pack, entries, key), entries
}

// reader counts what List reads.
type reader struct {
	pack  []byte
	calls int
	bytes int
}

func (r *reader) readAt(ctx context.Context, p []byte, offsetBytes int64) error {
	r.calls++
	r.bytes += len(p)
	if offsetBytes < 0 || offsetBytes+int64(len(p)) > int64(len(r.pack)) {
		return fmt.Errorf("read %d+%d of %d", offsetBytes, len(p), len(r.pack))
	}
	copy(p, r.pack[offsetBytes:])
	return ctx.Err()
}

func list(t testing.TB, pack []byte, key *seal.Key) ([]blob.Entry, error) {
	r := reader{pack: pack}
	return List(t.Context(), r.readAt, int64(len(pack)), key)
}

func TestList(t *testing.T) {
	key := seal.NewKey()
	for _, tt := range []struct{ blobs, reads int }{{1, 1}, {2, 1}, {100, 1}, {400, 2}, {5000, 2}} {
		pack, want := somePack(tt.blobs, key)
		r := reader{pack: pack}
		got, err := List(t.Context(), r.readAt, int64(len(pack)), key)
		if err != nil {
			t.Fatalf("%d blobs: %v", tt.blobs, err)
		}
		if !slices.Equal(want, got) {
			t.Errorf("%d blobs: %s", tt.blobs, cmp.Diff(want, got))
		}
		if r.calls != tt.reads || r.bytes > len(pack) {
			t.Errorf("%d blobs: %d bytes in %d reads, want %d reads", tt.blobs, r.bytes, r.calls, tt.reads)
		}
	}
}

func TestOneReadForOrdinaryPacks(t *testing.T) {
	// 16 MiB of source files of 7 KiB each, compressed.
	const sizeBytes, blobBytes = 16 << 20, 7 << 10
	header := fixedBytes + sizeBytes/blobBytes*compressedEntryBytes
	if got := guessBytes(sizeBytes); got < int64(header) || got > 256<<10 {
		t.Errorf("the first read is of %d bytes, the header has %d", got, header)
	}
}

func TestHeaderBytes(t *testing.T) {
	key := seal.NewKey()
	for _, n := range []int{1, 2, 17} {
		pack, entries := somePack(n, key)
		last := entries[n-1]
		if got, want := HeaderBytes(entries), len(pack)-int(last.OffsetBytes+last.LengthBytes); got != want {
			t.Errorf("%d blobs: HeaderBytes %d, Finish appended %d", n, got, want)
		}
	}
	if n := HeaderBytes(make([]blob.Entry, 1)) + MaxBlobs*EntryBytes(true); n < MaxHeaderBytes {
		t.Errorf("one more than MaxBlobs would fit too: %d bytes", n)
	}
}

func TestAppendHeaderIsTheEndOfFinish(t *testing.T) {
	key := seal.NewKey()
	pack, entries := somePack(3, key)
	end := int(entries[2].OffsetBytes + entries[2].LengthBytes)
	again := AppendHeader(pack[:end:end], entries, key)
	if len(again) != len(pack) {
		t.Fatalf("%d bytes, want %d", len(again), len(pack))
	}
	if got, err := list(t, again, key); err != nil || !cmp.Equal(got, entries) {
		t.Errorf("list: %v, error %v", got, err)
	}
}

func TestFinishPanicsOnWrongLengths(t *testing.T) {
	key := seal.NewKey()
	one := blob.Entry{Location: blob.Location{LengthBytes: 40}}
	two := one
	two.OffsetBytes = 40
	odd := one
	odd.Type = 7
	for name, tt := range map[string]struct {
		packBytes int
		entries   []blob.Entry
	}{
		"pack too short":  {39, []blob.Entry{one}},
		"pack too long":   {81, []blob.Entry{one, two}},
		"wrong offset":    {80, []blob.Entry{one, one}},
		"no entries":      {0, nil},
		"unknown type":    {40, []blob.Entry{odd}},
		"offset of first": {40, []blob.Entry{two}},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			Finish(make([]byte, tt.packBytes), tt.entries, key)
		})
	}
}

// entry returns the bytes of a header entry.
func entry(typ byte, numbers ...uint32) []byte {
	p := []byte{typ}
	for _, n := range numbers {
		p = binary.LittleEndian.AppendUint32(p, n)
	}
	return append(p, make([]byte, 32)...)
}

func TestParseHeader(t *testing.T) {
	for name, tt := range map[string]struct {
		plain   []byte
		entries int // 0: ErrCorrupt
	}{
		"data":                     {entry(0, 32), 1},
		"tree":                     {entry(1, 100), 1},
		"compressed":               {append(entry(2, 100, 300), entry(3, 100, 1)...), 2},
		"up to 32 bits":            {append(entry(0, 1<<31), entry(0, 1<<31-1)...), 2},
		"empty":                    {nil, 0},
		"unknown type":             {entry(4, 100), 0},
		"type cut off":             {entry(0, 100)[:36], 0},
		"second cut off":           {append(entry(0, 100), 0), 0},
		"compressed cut off":       {entry(2, 100, 100)[:37], 0},
		"shorter than a seal":      {entry(0, 31), 0},
		"compressed to nothing":    {entry(2, 100, 0), 0},
		"beyond 32 bits":           {append(entry(0, 1<<31), entry(0, 1<<31)...), 0},
		"compressed type, no room": {entry(3, 100), 0},
	} {
		got, err := ParseHeader(tt.plain)
		if len(got) != tt.entries || (tt.entries == 0) != errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %d entries, error %v", name, len(got), err)
		}
	}
}

func TestListDamage(t *testing.T) {
	key := seal.NewKey()
	pack, entries := somePack(5, key)
	end := int(entries[4].OffsetBytes + entries[4].LengthBytes)
	reject := func(what string, pack []byte) {
		t.Helper()
		if got, err := list(t, pack, key); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %d entries, error %v", what, len(got), err)
		}
	}
	for n := range pack {
		reject(fmt.Sprintf("cut to %d", n), pack[:n])
	}
	for i := end * 8; i < len(pack)*8; i++ {
		p := bytes.Clone(pack)
		p[i/8] ^= 1 << (i % 8)
		reject(fmt.Sprintf("bit %d flipped", i), p)
	}
	reject("byte before", append([]byte{0}, pack...))
	reject("byte less", pack[1:])
	reject("byte behind", append(bytes.Clone(pack), 0))

	other := seal.NewKey()
	if _, err := list(t, pack, other); !errors.Is(err, ErrCorrupt) || !errors.Is(err, seal.ErrMAC) {
		t.Errorf("another key: error %v, want ErrCorrupt and ErrMAC", err)
	}
}

func TestListRefusesHugeHeaders(t *testing.T) {
	read := 0
	readAt := func(_ context.Context, p []byte, _ int64) error {
		read += len(p)
		binary.LittleEndian.PutUint32(p[len(p)-4:], MaxHeaderBytes-3)
		return nil
	}
	if _, err := List(t.Context(), readAt, 4<<30, seal.NewKey()); !errors.Is(err, ErrCorrupt) || read > 1<<20 {
		t.Errorf("error %v after reading %d bytes", err, read)
	}
}

func TestListReturnsTheReadersError(t *testing.T) {
	key := seal.NewKey()
	pack, _ := somePack(1000, key) // takes two reads
	broken := errors.New("broken")
	for fail := range 2 {
		calls := 0
		_, err := List(t.Context(), func(_ context.Context, p []byte, offsetBytes int64) error {
			if calls++; calls > fail {
				return broken
			}
			copy(p, pack[offsetBytes:])
			return nil
		}, int64(len(pack)), key)
		if !errors.Is(err, broken) || errors.Is(err, ErrCorrupt) {
			t.Errorf("read %d fails: error %v", fail, err)
		}
	}
}

// FuzzParseHeader wants whatever is accepted to be written again as the same bytes.
func FuzzParseHeader(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(append(entry(2, 100, 300), entry(1, 50)...))
	f.Add(append(entry(0, 1<<31), entry(0, 1<<31)...))
	f.Add(entry(3, 100))
	f.Fuzz(func(t *testing.T, plain []byte) {
		entries, err := ParseHeader(plain)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) || entries != nil {
				t.Errorf("%d entries, error %v", len(entries), err)
			}
			return
		}
		var again []byte
		for i := range entries {
			again = appendEntry(again, &entries[i])
		}
		if !bytes.Equal(plain, again) {
			t.Errorf("read %x, written %x", plain, again)
		}
	})
}

// FuzzList seals a header of the fuzzer's choice, so that it gets behind the MAC, then breaks
// one byte of the pack if breakAt is inside.
func FuzzList(f *testing.F) {
	key := seal.KeyFrom([32]byte{1}, [16]byte{2}, [16]byte{3})
	f.Add(entry(0, 40), uint16(40), uint16(0), uint16(1000))
	f.Add(append(entry(2, 40, 90), entry(1, 50)...), uint16(90), uint16(0), uint16(3))
	f.Add(bytes.Repeat(entry(0, 40), 400), uint16(16000), uint16(2), uint16(16010))
	f.Fuzz(func(t *testing.T, plain []byte, blobBytes, behind, breakAt uint16) {
		pack := key.Seal(make([]byte, blobBytes), plain)
		pack = binary.LittleEndian.AppendUint32(pack, uint32(len(pack)-int(blobBytes)))
		pack = append(pack, make([]byte, behind%64)...)
		if int(breakAt) < len(pack) {
			pack[breakAt] ^= 0x55
		}
		entries, err := list(t, pack, key)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) || entries != nil {
				t.Errorf("%d entries, error %v", len(entries), err)
			}
			return
		}
		var sum int64
		for _, e := range entries {
			if int64(e.OffsetBytes) != sum {
				t.Errorf("blob at %d, want %d", e.OffsetBytes, sum)
			}
			sum += int64(e.LengthBytes)
		}
		if sum+int64(HeaderBytes(entries)) != int64(len(pack)) {
			t.Errorf("%d bytes of blobs and %d of header in a pack of %d", sum, HeaderBytes(entries), len(pack))
		}
	})
}

func BenchmarkParseHeader(b *testing.B) {
	_, entries := somePack(3000, seal.NewKey())
	var plain []byte
	for i := range entries {
		plain = appendEntry(plain, &entries[i])
	}
	b.SetBytes(int64(len(plain)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseHeader(plain); err != nil {
			b.Fatal(err)
		}
	}
}
