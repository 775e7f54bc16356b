package repo

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/chunker"
	"vitrine/repo/internal/claims"
	"vitrine/repo/internal/compress"
	"vitrine/repo/internal/keyfile"
	"vitrine/repo/internal/seal"
	"vitrine/repo/snapshot"
)

// The versions of the format, and the one that Init takes when none is named.
const (
	MinVersion     = 1
	MaxVersion     = 2
	DefaultVersion = 2
)

// Pack sizes in bytes: the target at which an open pack is stored.
const (
	DefaultPackBytes = 16 << 20
	MinPackBytes     = 4 << 20
	MaxPackBytes     = 128 << 20
)

// maxConfigBytes bounds a config file, which is 200 bytes.
const maxConfigBytes = 1 << 20

// maxKeys bounds the scrypt derivations that one Open may cost.
const maxKeys = 20

// Config is the public part of a repository's config file.
type Config struct {
	Version    uint        // 1 or 2
	ID         string      // 64 hexadecimal digits, random
	Polynomial chunker.Pol // of the chunker, irreducible
}

// configJSON is the stored form, FORMAT.md section 1.
type configJSON struct {
	Version           uint   `json:"version"`
	ID                string `json:"id"`
	ChunkerPolynomial string `json:"chunker_polynomial"`
}

// KDF holds the scrypt parameters of a new key file.
type KDF = keyfile.Params

// Options say how Open treats the repository. The zero value of each but Password is usable.
type Options struct {
	Password []byte
	// KeyHint is an ID prefix of the key file to try first.
	KeyHint string
	// OpenIndex builds the index once the keys are known; nil gives a repository that reads
	// and writes sealed files but no blobs.
	OpenIndex func(ctx context.Context, r *Repository) (Index, error)
	// Cache wraps the store in one that keeps copies of its files, once the repository is known by its
	// ID; nil leaves the store as it is. Config and keys are read before, from the store itself.
	Cache func(repoID string, be backend.Backend) backend.Backend
	// Scratch returns a directory, of the repository with that ID, for files without a name: what a run has to remember of
	// each blob goes there when it gets much. Nothing readable is in it. nil, or an error, leaves all in memory.
	Scratch func(repoID string) (dir string, err error)
	// Compression is auto, off, fastest, better or max; "" is auto. Version 1 never compresses.
	Compression string
	// PackBytes is the target size of packs; 0 means DefaultPackBytes.
	PackBytes int
	// NoVerify leaves out opening again what was sealed before it is stored.
	NoVerify bool
	// Log receives what is worth knowing and is no error; nil discards it.
	Log *slog.Logger
}

// Repository is an open repository. It does not change after Open; all methods may be
// called in parallel.
type Repository struct {
	be        backend.Backend
	config    Config
	key       *seal.Key
	keyID     blob.ID
	index     Index
	codec     *compress.Codec
	packBytes int
	verify    bool
	log       *slog.Logger
	scratch   func() (dir string, err error) // nil: there is none

	decoding chan struct{} // holds one for each index file that is being decoded

	indexFiles atomic.Pointer[[]backend.Info] // what IndexFiles found last; nil before that

	snapshotMu sync.Mutex                     // guards snapshotCache
	snapshots  map[blob.ID]*snapshot.Snapshot // decoded files; they never change under a name
}

// Open reads the config, finds the key that the password opens, and builds the index. The
// repository takes over the backend: Close closes it, and so does an Open that fails.
func Open(ctx context.Context, be backend.Backend, o Options) (*Repository, error) {
	r := &Repository{be: be, packBytes: o.PackBytes, verify: !o.NoVerify, log: o.Log,
		decoding: make(chan struct{}, min(runtime.GOMAXPROCS(0), runtime.NumCPU())), snapshots: make(map[blob.ID]*snapshot.Snapshot)}
	if err := r.open(ctx, o); err != nil {
		return nil, errors.Join(err, r.be.Close())
	}
	return r, nil
}

func (r *Repository) open(ctx context.Context, o Options) error {
	level := compress.Auto
	if o.Compression != "" {
		var err error
		if level, err = compress.ParseLevel(o.Compression); err != nil {
			return err
		}
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.packBytes == 0 {
		r.packBytes = DefaultPackBytes
	}
	if r.packBytes < MinPackBytes || r.packBytes > MaxPackBytes {
		return fmt.Errorf("pack size %d MiB: choose %d to %d MiB", r.packBytes>>20, MinPackBytes>>20, MaxPackBytes>>20)
	}
	sealed, err := r.be.ReadAll(ctx, backend.File{Kind: backend.Config}, maxConfigBytes)
	if errors.Is(err, backend.ErrNotExist) {
		return fmt.Errorf("%s: %w: no config file there; `vitrine init` makes a repository", r.be.Location(), ErrNoRepository)
	} else if err != nil {
		return err
	}
	if r.key, r.keyID, err = findKey(ctx, r.be, o.Password, o.KeyHint); err != nil {
		return err
	}
	if r.config, err = decodeConfig(r.key, sealed); err != nil {
		if errors.Is(err, ErrCorrupt) {
			err = Advised(fmt.Errorf("%w; put the file back from a copy of the repository", err))
		}
		return fmt.Errorf("%s: config: %w", r.be.Location(), err)
	}
	if r.config.Version < 2 {
		level = compress.Off
	}
	r.codec = compress.New(level)
	if o.Scratch != nil {
		r.scratch = func() (string, error) { return o.Scratch(r.config.ID) }
	}
	if o.Cache != nil {
		r.be = o.Cache(r.config.ID, r.be)
	}
	if o.OpenIndex != nil {
		if r.index, err = o.OpenIndex(ctx, r); errors.Is(err, ErrCorrupt) {
			return Advised(fmt.Errorf("open index: %w; `vitrine repair index` makes a new index from the packs", err))
		} else if err != nil {
			return fmt.Errorf("open index: %w", err)
		}
	}
	return nil
}

// decodeConfig opens and checks a config file.
func decodeConfig(key *seal.Key, sealed []byte) (Config, error) {
	plain, err := key.Open(nil, sealed)
	if err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return parseConfig(plain)
}

func parseConfig(plain []byte) (Config, error) {
	var j configJSON
	if err := json.Unmarshal(plain, &j); err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if j.Version < MinVersion || j.Version > MaxVersion {
		return Config{}, fmt.Errorf("%w %d: this program knows versions %d to %d; a newer vitrine may open it", ErrVersion, j.Version, MinVersion, MaxVersion)
	}
	if _, err := blob.ParseID(j.ID); err != nil {
		return Config{}, fmt.Errorf("%w: repository %w", ErrCorrupt, err)
	}
	pol, err := chunker.ParsePol(j.ChunkerPolynomial)
	if err == nil {
		err = pol.Check()
	}
	if err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return Config{Version: j.Version, ID: j.ID, Polynomial: pol}, nil
}

// Close closes the index and the backend.
func (r *Repository) Close() error {
	var err error
	if r.index != nil {
		err = r.index.Close()
	}
	return errors.Join(err, r.be.Close())
}

// newClaims returns an empty set of blobs, for a run to remember what it has stored. The caller closes it.
func (r *Repository) newClaims() *claims.Set { return claims.New(r.scratch, r.log) }

// Config returns what the config file says.
func (r *Repository) Config() Config { return r.config }

// ConfigJSON returns the config file's plain text, for `cat config`.
func (r *Repository) ConfigJSON(ctx context.Context) ([]byte, error) {
	sealed, err := r.be.ReadAll(ctx, backend.File{Kind: backend.Config}, maxConfigBytes)
	if err != nil {
		return nil, err
	}
	plain, err := r.key.Open(nil, sealed)
	if err != nil {
		return nil, fmt.Errorf("config: %w: %w", ErrCorrupt, err)
	}
	return plain, nil
}

// KeyID names the key file that opened the repository.
func (r *Repository) KeyID() blob.ID { return r.keyID }

// Backend returns the store below, for layers that count or list its files.
func (r *Repository) Backend() backend.Backend { return r.be }

// Secret derives a key for a cache of this repository: HKDF-SHA256 of the master key, with
// the repository's ID as salt and the label as info. It reveals nothing of the master key.
func (r *Repository) Secret(label string) [32]byte {
	master := make([]byte, 0, 64)
	master = append(master, r.key.Encrypt[:]...)
	master = append(master, r.key.MACK[:]...)
	master = append(master, r.key.MACR[:]...)
	out, err := hkdf.Key(sha256.New, master, []byte(r.config.ID), "vitrine "+label, 32)
	if err != nil {
		panic("hkdf: " + err.Error()) // only for lengths out of range
	}
	return [32]byte(out)
}
