package repo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"vitrine/repo/backend"
)

// replaceTime bounds the part of an upgrade during which the config may be gone; it goes on when the context ends.
const replaceTime = time.Minute

// Upgrade writes a config that makes the repository one of version 2; r itself goes on as it was opened. Version 2 allows
// more than version 1, and nothing that is stored has to change, but that packs with data and trees are odd there.
//
// Before anything changes, keepCopy gets the sealed bytes of the config, which are worth the repository: it makes them
// durable elsewhere until Upgrade has returned nil. Where the store has a way, the config is replaced in one step. Else
// it is removed and stored anew, and if that fails the old one is put back; the error says when even that has failed. The caller
// holds an exclusive lock and has checked the repository.
func (r *Repository) Upgrade(ctx context.Context, keepCopy func(sealed []byte) error) error {
	f := backend.File{Kind: backend.Config}
	old, err := r.be.ReadAll(ctx, f, maxConfigBytes)
	if err != nil {
		return err
	}
	c, err := decodeConfig(r.key, old)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	plain, err := json.Marshal(configJSON{Version: MaxVersion, ID: c.ID, ChunkerPolynomial: c.Polynomial.String()})
	if err != nil {
		return err
	}
	changed := r.key.Seal(nil, plain)
	if again, err := decodeConfig(r.key, changed); err != nil || again != (Config{MaxVersion, c.ID, c.Polynomial}) {
		return Advised(fmt.Errorf("verify the new config before storing it: %w; is the memory of this machine sound?", errors.Join(err, ErrCorrupt)))
	}
	if err := keepCopy(old); err != nil {
		return fmt.Errorf("keep a copy of the config: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), replaceTime)
	defer cancel()
	return r.replaceConfig(ctx, old, changed)
}

// replaceConfig stores another config in the place of the old one.
func (r *Repository) replaceConfig(ctx context.Context, old, changed []byte) error {
	f := backend.File{Kind: backend.Config}
	err := r.be.Save(backend.WithReplace(ctx), f, changed)
	if errors.Is(err, backend.ErrExist) && !r.isConfig(ctx, changed) {
		if err = r.be.Remove(ctx, f); err == nil || errors.Is(err, backend.ErrNotExist) {
			err = r.be.Save(ctx, f, changed)
		}
	}
	switch {
	case r.isConfig(ctx, changed):
		return nil // whatever was said
	case err == nil:
		err = fmt.Errorf("the config is not what was stored: %w", ErrCorrupt)
	case r.isConfig(ctx, old):
		return err
	}
	// Neither is there, or the store does not answer.
	if saved := r.be.Save(ctx, f, old); r.isConfig(ctx, old) {
		return err
	} else if !r.isConfig(ctx, changed) {
		return fmt.Errorf("%w; the config may be gone, put the copy of it in its place: %w", err, errors.Join(saved, ErrNoRepository))
	}
	return nil
}

// isConfig reports whether these are the sealed bytes of the config that is stored.
func (r *Repository) isConfig(ctx context.Context, sealed []byte) bool {
	there, err := r.be.ReadAll(ctx, backend.File{Kind: backend.Config}, maxConfigBytes)
	return err == nil && bytes.Equal(there, sealed)
}
