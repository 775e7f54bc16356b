package repo

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/internal/keyfile"
	"vitrine/repo/internal/seal"
)

// maxKeyFileBytes bounds a key file, which is a few hundred bytes of JSON.
const maxKeyFileBytes = 64 << 10

// findKey tries the hinted key file first, then the others, up to maxKeys.
func findKey(ctx context.Context, be backend.Backend, password []byte, hint string) (*seal.Key, blob.ID, error) {
	var names []string
	err := be.List(ctx, backend.Key, func(info backend.Info) error {
		if hint != "" && strings.HasPrefix(info.Name, hint) {
			names = append([]string{info.Name}, names...)
		} else {
			names = append(names, info.Name)
		}
		return nil
	})
	if err != nil {
		return nil, blob.ID{}, err
	}
	if len(names) == 0 {
		return nil, blob.ID{}, Advised(fmt.Errorf("%s: %w: it has a config but no key file; restore the files below keys/", be.Location(), ErrCorrupt))
	}
	tooMany := len(names) > maxKeys
	if tooMany {
		names = names[:maxKeys]
	}
	var damaged []string
	for _, name := range names {
		key, id, err := tryKey(ctx, be, name, password)
		switch {
		case err == nil:
			return key, id, nil
		case errors.Is(err, ErrWrongPassword), errors.Is(err, backend.ErrNotExist):
		case ctx.Err() != nil:
			return nil, blob.ID{}, ctx.Err()
		case errors.Is(err, ErrCorrupt):
			damaged = append(damaged, err.Error())
		default:
			return nil, blob.ID{}, err
		}
	}
	switch {
	case len(damaged) == len(names):
		return nil, blob.ID{}, fmt.Errorf("%s: no usable key file, put one back from a copy of the repository: %s", be.Location(), strings.Join(damaged, "; "))
	case len(damaged) > 0:
		return nil, blob.ID{}, fmt.Errorf("%w of %s, or its key file is damaged: %s", ErrWrongPassword, be.Location(), strings.Join(damaged, "; "))
	case tooMany:
		return nil, blob.ID{}, fmt.Errorf("%w or no key found: none of the first %d keys of %s opens with it; name yours with --key-hint", ErrWrongPassword, maxKeys, be.Location())
	}
	return nil, blob.ID{}, fmt.Errorf("%w or no key found: no key of %s opens with it", ErrWrongPassword, be.Location())
}

func tryKey(ctx context.Context, be backend.Backend, name string, password []byte) (*seal.Key, blob.ID, error) {
	f := backend.File{Kind: backend.Key, Name: name}
	file, err := be.ReadAll(ctx, f, maxKeyFileBytes)
	if errors.Is(err, backend.ErrTooBig) {
		return nil, blob.ID{}, fmt.Errorf("%v: %w: %w", f, ErrCorrupt, err)
	} else if err != nil {
		return nil, blob.ID{}, err
	}
	id, err := blob.ParseID(name)
	if err != nil {
		return nil, blob.ID{}, err
	}
	if blob.Hash(file) != id {
		return nil, blob.ID{}, fmt.Errorf("%v: %w", f, ErrNotAsNamed)
	}
	key, err := keyfile.Open(file, password)
	if err != nil && !errors.Is(err, ErrWrongPassword) {
		return nil, blob.ID{}, fmt.Errorf("%v: %w: %w", f, ErrCorrupt, err)
	}
	return key, id, err
}

// MasterKeyJSON returns the master key in the form that key files seal, for `cat masterkey`.
// Whoever has it reads the whole repository.
func (r *Repository) MasterKeyJSON() ([]byte, error) {
	type mac struct {
		K string `json:"k"`
		R string `json:"r"`
	}
	b64 := base64.StdEncoding.EncodeToString
	return json.MarshalIndent(struct {
		MAC     mac    `json:"mac"`
		Encrypt string `json:"encrypt"`
	}{mac{b64(r.key.MACK[:]), b64(r.key.MACR[:])}, b64(r.key.Encrypt[:])}, "", "  ")
}

// KeyFile returns the stored JSON of a key file, for `cat key`. It holds no secret that the
// password does not guard.
func (r *Repository) KeyFile(ctx context.Context, id blob.ID) ([]byte, error) {
	return r.be.ReadAll(ctx, backend.File{Kind: backend.Key, Name: id.String()}, maxKeyFileBytes)
}
