package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/internal/keyfile"
)

// ErrKeyInUse is the error of RemoveKey for the key that opened the repository.
var ErrKeyInUse = errors.New("refusing to remove key currently used to access repository")

// KeyInfo is what a key file tells without its password.
type KeyInfo struct {
	ID                 blob.ID
	Current            bool // it opened the repository
	Created            time.Time
	Username, Hostname string // who made it, and where
}

// keysTogether is how many key files Keys reads at a time.
const keysTogether = 8

// Keys lists the keys of the repository, in the order of their IDs. When some cannot be read the
// others are returned together with an error that names each of the bad ones. A store that has not answered for several is
// not asked for the rest.
func (r *Repository) Keys(ctx context.Context) ([]KeyInfo, error) {
	files, err := r.ListFiles(ctx, backend.Key)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(files, func(a, b backend.Info) int { return strings.Compare(a.Name, b.Name) })
	var ids []blob.ID
	for _, file := range files {
		if id, err := blob.ParseID(file.Name); err == nil { // else it is no key: restic does not see it either
			ids = append(ids, id)
		}
	}
	var keys []KeyInfo
	var errs []error
	for len(ids) > 0 {
		n := min(keysTogether, len(ids))
		var infos [keysTogether]KeyInfo
		var failed [keysTogether]error
		var reads sync.WaitGroup
		for i, id := range ids[:n] {
			reads.Go(func() { infos[i], failed[i] = r.keyInfo(ctx, id) })
		}
		reads.Wait()
		away := 0
		for i, err := range failed[:n] {
			switch {
			case err == nil:
				keys = append(keys, infos[i])
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case !errors.Is(err, backend.ErrNotExist): // else it was removed since it was listed
				errs = append(errs, fmt.Errorf("key/%s: %w", ids[i].Short(), err))
			}
			if errors.Is(err, backend.ErrAway) {
				away++
			}
		}
		if ids = ids[n:]; away == n && len(ids) > 0 {
			errs = append(errs, fmt.Errorf("%d more keys are not asked for", len(ids)))
			break
		}
	}
	return keys, errors.Join(errs...)
}

func (r *Repository) keyInfo(ctx context.Context, id blob.ID) (KeyInfo, error) {
	text, err := r.KeyFile(ctx, id)
	if err != nil {
		return KeyInfo{}, err
	}
	info, err := keyfile.ParseInfo(text)
	if err == nil && blob.Hash(text) != id {
		err = errors.New("content does not match its name")
	}
	if err != nil {
		return KeyInfo{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return KeyInfo{ID: id, Current: id == r.keyID, Created: info.Created, Username: info.Username, Hostname: info.Hostname}, nil
}

// KeyOptions say what key AddKey makes.
type KeyOptions struct {
	Password           []byte
	Username, Hostname string // noted in the key file
	KDF                KDF    // zero means calibrated for about half a second and at most 60 MiB
}

// AddKey stores a key file for another password and returns its name. The file is read back and
// opened before it counts; when that fails it is removed again.
func (r *Repository) AddKey(ctx context.Context, o KeyOptions) (blob.ID, error) {
	if err := mayChange(ctx, backend.Key); err != nil {
		return blob.ID{}, err
	}
	if o.KDF == (KDF{}) {
		o.KDF = calibratedKDF()
	}
	text, err := keyfile.New(r.key, o.Password, o.Username, o.Hostname, time.Now(), o.KDF)
	if err != nil {
		return blob.ID{}, fmt.Errorf("make key: %w", err)
	}
	id := blob.Hash(text)
	if err = r.be.Save(ctx, backend.File{Kind: backend.Key, Name: id.String()}, text); err == nil {
		err = r.tryNewKey(ctx, id, o.Password)
	}
	if err != nil {
		return blob.ID{}, errors.Join(fmt.Errorf("store new key: %w", err), r.undoSave(ctx, backend.Key, id))
	}
	return id, nil
}

// tryNewKey opens a new key file as the next Open will.
func (r *Repository) tryNewKey(ctx context.Context, id blob.ID, password []byte) error {
	key, _, err := tryKey(ctx, r.be, id.String(), password)
	if err == nil && (key.Encrypt != r.key.Encrypt || key.MACK != r.key.MACK || key.MACR != r.key.MACR) {
		err = errors.New("it holds another master key")
	}
	if errors.Is(err, ErrWrongPassword) {
		err = errors.New("it does not open with its password") // not of the class that means the password of the user
	}
	if err != nil {
		return fmt.Errorf("read it back: %w", err)
	}
	return nil
}

// RemoveKey removes a key file. That of the key that opened the repository stays: ErrKeyInUse. The
// caller holds an exclusive lock.
func (r *Repository) RemoveKey(ctx context.Context, id blob.ID) error {
	if id == r.keyID {
		return fmt.Errorf("key/%s: %w", id.Short(), ErrKeyInUse)
	}
	return r.RemoveFile(ctx, backend.Key, id)
}

// ChangePassword adds a key and then removes the one that opened the repository. When it fails at
// least one of the two opens it: the old one alone when the new one could not be stored, and
// possibly both when the old one could not be removed. The caller holds an exclusive lock.
func (r *Repository) ChangePassword(ctx context.Context, o KeyOptions) (blob.ID, error) {
	id, err := r.AddKey(ctx, o)
	if err != nil {
		return blob.ID{}, err
	}
	if err := r.RemoveFile(ctx, backend.Key, r.keyID); err != nil && !errors.Is(err, backend.ErrNotExist) {
		return id, fmt.Errorf("the new password opens the repository, but so does the old one, for its key %s cannot be removed: %w", r.keyID.Short(), err)
	}
	return id, nil
}
