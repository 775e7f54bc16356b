package repo

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/chunker"
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

// InitOptions say what Init makes.
type InitOptions struct {
	Version    uint        // 0 means DefaultVersion
	Password   []byte      // of the first key
	Username   string      // noted in the key file
	Hostname   string      // noted in the key file
	Polynomial chunker.Pol // 0 means a random one
	KDF        KDF         // zero means calibrated for about half a second and at most 60 MiB
}

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

	snapshotMu sync.Mutex                     // guards snapshotCache
	snapshots  map[blob.ID]*snapshot.Snapshot // decoded files; they never change under a name
}

// Init makes a new repository on an empty backend: a key file, then the config. When one of
// them cannot be stored the key is removed again.
func Init(ctx context.Context, be backend.Backend, o InitOptions) (Config, error) {
	c := Config{Version: o.Version, Polynomial: o.Polynomial}
	if c.Version == 0 {
		c.Version = DefaultVersion
	}
	if c.Version < MinVersion || c.Version > MaxVersion {
		return Config{}, fmt.Errorf("%w %d: this program writes versions %d to %d", ErrVersion, c.Version, MinVersion, MaxVersion)
	}
	if err := checkVacant(ctx, be); err != nil {
		return Config{}, err
	}
	if c.Polynomial == 0 {
		var err error
		if c.Polynomial, err = chunker.RandomPol(); err != nil {
			return Config{}, fmt.Errorf("choose chunker polynomial: %w", err)
		}
	} else if err := c.Polynomial.Check(); err != nil {
		return Config{}, err
	}
	var id [32]byte
	rand.Read(id[:])
	c.ID = hex.EncodeToString(id[:])

	master := seal.NewKey()
	kdf := o.KDF
	if kdf == (KDF{}) {
		kdf = keyfile.Calibrate(500*time.Millisecond, 60<<20)
	}
	keyBytes, err := keyfile.New(master, o.Password, o.Username, o.Hostname, time.Now(), kdf)
	if err != nil {
		return Config{}, fmt.Errorf("make key: %w", err)
	}
	keyFile := backend.File{Kind: backend.Key, Name: blob.Hash(keyBytes).String()}
	plain, err := json.Marshal(configJSON{Version: c.Version, ID: c.ID, ChunkerPolynomial: c.Polynomial.String()})
	if err != nil {
		return Config{}, err
	}
	err = be.Save(ctx, keyFile, keyBytes)
	if err == nil {
		err = be.Save(ctx, backend.File{Kind: backend.Config}, master.Seal(nil, plain))
	}
	if err != nil {
		return Config{}, errors.Join(err, undoInit(context.WithoutCancel(ctx), be, keyFile, master))
	}
	return c, nil
}

// undoInit removes the key of an Init that failed. A Save that fails may have published its file all
// the same: where the config of this key is, the key must stay.
func undoInit(ctx context.Context, be backend.Backend, keyFile backend.File, master *seal.Key) error {
	sealed, err := be.ReadAll(ctx, backend.File{Kind: backend.Config}, maxConfigBytes)
	if err == nil {
		if _, err := master.Open(nil, sealed); err == nil {
			return nil
		}
	} else if !errors.Is(err, backend.ErrNotExist) {
		return err
	}
	if err := be.Remove(ctx, keyFile); !errors.Is(err, backend.ErrNotExist) {
		return err
	}
	return nil
}

// checkVacant refuses a place that holds a repository or the keys of one.
func checkVacant(ctx context.Context, be backend.Backend) error {
	_, err := be.Stat(ctx, backend.File{Kind: backend.Config})
	if err == nil {
		return fmt.Errorf("%s: %w", be.Location(), ErrExists)
	}
	if !errors.Is(err, backend.ErrNotExist) {
		return err
	}
	keys := 0
	err = be.List(ctx, backend.Key, func(backend.Info) error { keys++; return nil })
	if err != nil && !errors.Is(err, backend.ErrNotExist) {
		return err
	}
	if keys > 0 {
		return fmt.Errorf("%s holds %d key file(s) but no config: %w in part; if it is the rest of an interrupted init, delete the files below keys/ and try again", be.Location(), keys, ErrExists)
	}
	return nil
}

// Open reads the config, finds the key that the password opens, and builds the index. The
// repository takes over the backend: Close closes it, and so does an Open that fails.
func Open(ctx context.Context, be backend.Backend, o Options) (*Repository, error) {
	r := &Repository{be: be, packBytes: o.PackBytes, verify: !o.NoVerify, log: o.Log,
		snapshots: make(map[blob.ID]*snapshot.Snapshot)}
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
		return fmt.Errorf("%s: config: %w", r.be.Location(), err)
	}
	if r.config.Version < 2 {
		level = compress.Off
	}
	r.codec = compress.New(level)
	if o.Cache != nil {
		r.be = o.Cache(r.config.ID, r.be)
	}
	if o.OpenIndex != nil {
		if r.index, err = o.OpenIndex(ctx, r); err != nil {
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
