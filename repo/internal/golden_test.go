// Package internal_test tries the codecs below this directory together, on repositories that
// restic wrote and with restic on a repository that they wrote.
package internal_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/blob"
	"vitrine/repo/internal/compress"
	"vitrine/repo/internal/indexfile"
	"vitrine/repo/internal/keyfile"
	"vitrine/repo/internal/packfile"
	"vitrine/repo/internal/seal"
)

// load returns the only file of a directory, or the file itself.
func load(t *testing.T, path ...string) []byte {
	t.Helper()
	name := filepath.Join(path...)
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		entries, err := os.ReadDir(name)
		if err != nil || len(entries) != 1 {
			t.Fatalf("%s: %d files, error %v; want one", name, len(entries), err)
		}
		name = filepath.Join(name, entries[0].Name())
	}
	p, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// unpack returns the JSON of a sealed file.
func unpack(t *testing.T, key *seal.Key, sealed []byte) []byte {
	t.Helper()
	plain, err := key.Open(nil, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if len(plain) > 0 && plain[0] == 2 {
		if plain, err = compress.DecompressLimit(plain[1:], 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	return plain
}

func TestGoldenRepositories(t *testing.T) {
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join("testdata", fmt.Sprintf("restic-v%d", version))
			key, err := keyfile.Open(load(t, dir, "keys"), []byte("golden"))
			if err != nil {
				t.Fatal(err)
			}
			var config struct{ Version int }
			if err := json.Unmarshal(unpack(t, key, load(t, dir, "config")), &config); err != nil || config.Version != version {
				t.Fatalf("config: version %d, error %v", config.Version, err)
			}
			index := map[blob.ID][]blob.Entry{}
			err = indexfile.Decode(unpack(t, key, load(t, dir, "index")), func(e blob.Entry) error {
				index[e.Pack] = append(index[e.Pack], e)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(index) != 5 {
				t.Errorf("%d packs in the index, want 5", len(index))
			}
			for id, entries := range index {
				checkPack(t, dir, key, id, entries)
			}
			snapshots, err := filepath.Glob(filepath.Join(dir, "snapshots", "*"))
			if err != nil || len(snapshots) != 2 {
				t.Fatalf("snapshots %v, error %v", snapshots, err)
			}
			for _, name := range snapshots {
				if p := unpack(t, key, load(t, name)); !json.Valid(p) {
					t.Errorf("%s: %.100q is not JSON", name, p)
				}
			}
		})
	}
}

// checkPack wants the header of a pack to say what the index says, and its blobs to be those.
func checkPack(t *testing.T, dir string, key *seal.Key, id blob.ID, want []blob.Entry) {
	t.Helper()
	pack := load(t, dir, "data", id.String()[:2], id.String())
	if blob.Hash(pack) != id {
		t.Errorf("pack %v has another hash", id.Short())
	}
	got, err := packfile.List(t.Context(), readAt(pack), int64(len(pack)), key)
	if err != nil {
		t.Fatal(err)
	}
	have := map[blob.Handle]blob.Entry{}
	for _, e := range got {
		e.Pack = id
		have[e.Handle] = e
	}
	for _, e := range want {
		if diff := cmp.Diff(e, have[e.Handle]); diff != "" {
			t.Errorf("pack %v: index and header differ: %s", id.Short(), diff)
		}
		plain, err := key.Open(nil, pack[e.OffsetBytes:e.OffsetBytes+e.LengthBytes])
		if err == nil && e.Compressed() {
			plain, err = compress.Decompress(nil, plain, int(e.PlainBytes))
		}
		if err != nil || blob.Hash(plain) != e.ID {
			t.Errorf("pack %v: %v: %d bytes, error %v", id.Short(), e.Handle, len(plain), err)
		}
	}
	if len(have) != len(want) {
		t.Errorf("pack %v: %d blobs in the header, %d in the index", id.Short(), len(have), len(want))
	}
}

func readAt(pack []byte) func(context.Context, []byte, int64) error {
	return func(_ context.Context, p []byte, offsetBytes int64) error {
		if n := copy(p, pack[offsetBytes:]); n < len(p) {
			return fmt.Errorf("%d bytes at %d: only %d are there", len(p), offsetBytes, n)
		}
		return nil
	}
}

// TestResticReadsOurs lets restic check and read a repository written with nothing but the codecs.
func TestResticReadsOurs(t *testing.T) {
	for _, version := range []int{1, 2} {
		for _, level := range []compress.Level{compress.Auto, compress.Off, compress.Fastest, compress.Better, compress.Max} {
			if version == 1 && level != compress.Off {
				continue
			}
			t.Run(fmt.Sprintf("v%d-%v", version, level), func(t *testing.T) {
				t.Parallel()
				w := &writer{t: t, dir: t.TempDir(), version: version, key: seal.NewKey(), codec: compress.New(level)}
				content := w.write()
				restic(t, w.dir, "check", "--read-data")
				if got := restic(t, w.dir, "dump", "latest", "/file"); got != content {
					t.Errorf("restic dumped %d bytes, want %d", len(got), len(content))
				}
				if got := restic(t, w.dir, "dump", "latest", "/empty"); got != "" {
					t.Errorf("restic dumped %q, want nothing", got)
				}
			})
		}
	}
}

func restic(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "restic", append([]string{"--no-cache", "-q", "-r", dir}, args...)...)
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD=correct horse")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("restic %v: %v\n%s%s", args, err, out, stderr.String())
	}
	return string(out)
}

// writer makes a repository of two packs by hand.
type writer struct {
	t       *testing.T
	dir     string
	version int
	key     *seal.Key
	codec   *compress.Codec
}

// write returns the content of /file in the only snapshot.
func (w *writer) write() string {
	content := strings.Repeat("all work and no play\n", 10_000)
	id, idRaw := blob.Hash([]byte(content)), blob.Hash([]byte{1, 2, 3})
	times := `"mtime":"2024-05-06T07:08:09Z","atime":"2024-05-06T07:08:09Z","ctime":"2024-05-06T07:08:09Z","uid":0,"gid":0`
	tree := fmt.Sprintf(`{"nodes":[{"name":"empty","type":"file","mode":420,%[1]s,"content":[]},`+
		`{"name":"file","type":"file","mode":420,%[1]s,"size":%[2]d,"content":["%[3]v"]},`+
		`{"name":"raw","type":"file","mode":420,%[1]s,"size":3,"content":["%[4]v"]}]}`+"\n", times, len(content), id, idRaw)

	index := []indexfile.Pack{
		w.pack(blob.Data, []byte(content), []byte{1, 2, 3}),
		w.pack(blob.Tree, []byte(tree)),
	}
	w.unpacked("index", indexfile.Append(nil, index))
	w.unpacked("snapshots", fmt.Appendf(nil, `{"time":"2024-05-06T07:08:09Z","tree":"%v","paths":["/x"],"hostname":"h","username":"u"}`, blob.Hash([]byte(tree))))

	key, err := keyfile.New(w.key, []byte("correct horse"), "u", "h", time.Now(), keyfile.Params{N: 1 << 10, R: 8, P: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	w.file("keys", blob.Hash(key).String(), key)
	w.file("", "config", w.key.Seal(nil, fmt.Appendf(nil, `{"version":%d,"id":"%v","chunker_polynomial":"3da3358b4dc173"}`, w.version, id)))
	return content
}

func (w *writer) file(dir, name string, p []byte) {
	dir = filepath.Join(w.dir, dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), p, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *writer) unpacked(dir string, plain []byte) {
	if w.version == 2 {
		plain = w.codec.CompressAlways([]byte{2}, plain)
	}
	sealed := w.key.Seal(nil, plain)
	w.file(dir, blob.Hash(sealed).String(), sealed)
}

func (w *writer) pack(typ blob.Type, blobs ...[]byte) indexfile.Pack {
	var pack []byte
	var entries []blob.Entry
	for _, plain := range blobs {
		e := blob.Entry{Handle: blob.Handle{Type: typ, ID: blob.Hash(plain)}}
		e.OffsetBytes = uint32(len(pack))
		if frame, ok := w.codec.Compress(nil, plain); ok {
			pack = w.key.Seal(pack, frame)
			e.PlainBytes = uint32(len(plain))
		} else {
			pack = w.key.Seal(pack, plain)
		}
		e.LengthBytes = uint32(len(pack)) - e.OffsetBytes
		entries = append(entries, e)
	}
	pack = packfile.Finish(pack, entries, w.key)
	id := blob.Hash(pack)
	w.file(filepath.Join("data", id.String()[:2]), id.String(), pack)
	return indexfile.Pack{ID: id, Blobs: entries}
}
