package repo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/chunker"
	"vitrine/repo/internal/keyfile"
	"vitrine/repo/internal/seal"
)

// InitOptions say what Init makes.
type InitOptions struct {
	Version    uint        // 0 means DefaultVersion
	Password   []byte      // of the first key
	Username   string      // noted in the key file
	Hostname   string      // noted in the key file
	Polynomial chunker.Pol // 0 means a random one
	KDF        KDF         // zero means calibrated for about half a second and at most 60 MiB
}

// Init makes a new repository on an empty backend: a key file, then the config. When one of
// them cannot be stored the key is removed again. Where an Init was killed between the two, the key
// that it left is used if the password opens it. Anything else that is there is an error of class ErrExists.
func Init(ctx context.Context, be backend.Backend, o InitOptions) (Config, error) {
	c, err := newConfig(o)
	if err != nil {
		return Config{}, err
	}
	master, err := leftKey(ctx, be, o.Password)
	if err != nil {
		return Config{}, err
	}
	undo := func() error { return nil }
	if master == nil {
		master = seal.NewKey()
		keyFile, content, err := newKeyFile(master, o)
		if err != nil {
			return Config{}, err
		}
		undo = func() error { return undoInit(context.WithoutCancel(ctx), be, keyFile, master) }
		if err := be.Save(ctx, keyFile, content); err != nil {
			return Config{}, errors.Join(err, undo())
		}
	}
	plain, err := json.Marshal(configJSON{Version: c.Version, ID: c.ID, ChunkerPolynomial: c.Polynomial.String()})
	if err != nil {
		return Config{}, errors.Join(err, undo())
	}
	if err := be.Save(ctx, backend.File{Kind: backend.Config}, master.Seal(nil, plain)); err != nil {
		return Config{}, errors.Join(err, undo())
	}
	return c, nil
}

// newConfig chooses what the options leave open.
func newConfig(o InitOptions) (Config, error) {
	c := Config{Version: o.Version, Polynomial: o.Polynomial}
	if c.Version == 0 {
		c.Version = DefaultVersion
	}
	if c.Version < MinVersion || c.Version > MaxVersion {
		return Config{}, fmt.Errorf("%w %d: this program writes versions %d to %d", ErrVersion, c.Version, MinVersion, MaxVersion)
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
	return c, nil
}

// newKeyFile seals the master key with the password.
func newKeyFile(master *seal.Key, o InitOptions) (backend.File, []byte, error) {
	kdf := o.KDF
	if kdf == (KDF{}) {
		kdf = calibratedKDF()
	}
	content, err := keyfile.New(master, o.Password, o.Username, o.Hostname, time.Now(), kdf)
	if err != nil {
		return backend.File{}, nil, fmt.Errorf("make key: %w", err)
	}
	return backend.File{Kind: backend.Key, Name: blob.Hash(content).String()}, content, nil
}

// calibratedKDF is what a new key costs when nothing else is asked for.
func calibratedKDF() KDF { return keyfile.Calibrate(500*time.Millisecond, 60<<20) }

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

// leftKey refuses a place that holds a repository. Of one that holds nothing but keys it returns the key
// that the password opens, and of an empty one nil.
func leftKey(ctx context.Context, be backend.Backend, password []byte) (*seal.Key, error) {
	_, err := be.Stat(ctx, backend.File{Kind: backend.Config})
	if err == nil {
		return nil, fmt.Errorf("%s: %w", be.Location(), ErrExists)
	}
	if !errors.Is(err, backend.ErrNotExist) {
		return nil, err
	}
	if some, err := holds(ctx, be, backend.Key); err != nil || !some {
		return nil, err
	}
	// An init writes nothing else before the config. Where there is more, the config was lost, or cannot be seen
	// for the moment, and a new one would be in the way of the old.
	for _, kind := range []backend.Kind{backend.Snapshot, backend.Index, backend.Pack} {
		if some, err := holds(ctx, be, kind); err != nil {
			return nil, err
		} else if some {
			return nil, fmt.Errorf("%s holds keys and at least one %v, but no config: %w, and its config is lost; bring it back from a copy", be.Location(), kind, ErrExists)
		}
	}
	key, _, err := findKey(ctx, be, password, "")
	switch {
	case err == nil:
		return key, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("%s holds keys but no config: %w in part (%w); when they are what an interrupted init left, give the password of that time, or delete the files below keys/ and try again", be.Location(), ErrExists, err)
}

// errFound ends a listing.
var errFound = errors.New("found")

// holds tells whether there is a file of the kind.
func holds(ctx context.Context, be backend.Backend, kind backend.Kind) (bool, error) {
	err := be.List(ctx, kind, func(backend.Info) error { return errFound })
	switch {
	case errors.Is(err, errFound):
		return true, nil
	case errors.Is(err, backend.ErrNotExist):
		return false, nil // not even the directory
	}
	return false, err
}
