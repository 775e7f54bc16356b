package repo_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
)

// unreplacing is a store that cannot replace a config, as a REST server.
type unreplacing struct{ backend.Backend }

func (b unreplacing) Save(ctx context.Context, f backend.File, content []byte) error {
	if _, err := b.Stat(ctx, f); err == nil && f.Kind == backend.Config {
		return backend.ErrExist
	}
	return b.Backend.Save(ctx, f, content)
}

func TestUpgrade(t *testing.T) {
	config := backend.File{Kind: backend.Config}
	first := mem.New()
	repotest.Init(t, first, 1)
	r := repotest.Open(t, first)
	err := r.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
		_, err := w.SaveBlob(ctx, blob.Data, []byte("of version 1"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	before := r.Config()
	for _, store := range []struct {
		name string
		wrap func(backend.Backend) backend.Backend
	}{
		{"replaces", func(be backend.Backend) backend.Backend { return be }},
		{"does not replace", func(be backend.Backend) backend.Backend { return unreplacing{be} }},
	} {
		for _, mode := range []fault.Mode{fault.None, fault.Before, fault.After, fault.Short, fault.Corrupt} {
			for _, all := range []bool{false, true} {
				plan := fault.Nth
				if all {
					plan = fault.From
				}
				for i := 0; ; i++ {
					be := first.Clone()
					faulty := fault.New(store.wrap(be), nil)
					o := repotest.Options()
					o.OpenIndex = nil
					r, err := repo.Open(t.Context(), faulty, o)
					if err != nil {
						t.Fatal(err)
					}
					opened := faulty.Calls()
					faulty.SetPlan(plan(opened+i, mode))
					var kept []byte
					err = r.Upgrade(t.Context(), func(sealed []byte) error { kept = bytes.Clone(sealed); return nil })
					calls := faulty.Calls() - opened
					there, readErr := be.ReadAll(t.Context(), config, 1<<20)
					if readErr != nil { // it is lost only when the store is, and this is said
						if !all || !errors.Is(err, repo.ErrNoRepository) || kept == nil {
							t.Errorf("%s, %v from %d (all %v): the config is gone: %v", store.name, mode, i, all, err)
						}
						if err := be.Save(t.Context(), config, kept); err != nil { // what the message says
							t.Fatal(err)
						}
					}
					want := before
					if err == nil {
						want.Version = 2
					}
					after := repotest.Open(t, be)
					// A call that was done and failed, and after which nothing can be asked, leaves it open.
					if got := after.Config(); got != want && !(err != nil && got.Version == 2) {
						t.Errorf("%s, %v at %d (all %v): %+v, want %+v; %v, %d bytes", store.name, mode, i, all, got, want, err, len(there))
					}
					if plain, err := after.ReadBlob(t.Context(), blob.Handle{Type: blob.Data, ID: blob.Hash([]byte("of version 1"))}, nil); err != nil {
						t.Errorf("%q, %v", plain, err)
					}
					if err == nil && after.Compresses() == false {
						t.Error("it does not compress")
					}
					if i >= calls {
						if err != nil || i < 2 {
							t.Errorf("%s, %v: %d calls, %v", store.name, mode, calls, err)
						}
						break
					}
				}
			}
		}
	}
}

// Without a copy nothing changes, and an interrupted one stops before.
func TestUpgradeRefuses(t *testing.T) {
	be := mem.New()
	repotest.Init(t, be, 1)
	r := repotest.Open(t, be)
	full := errors.New("disk full")
	if err := r.Upgrade(t.Context(), func([]byte) error { return full }); !errors.Is(err, full) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := r.Upgrade(ctx, func([]byte) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if v := repotest.Open(t, be).Config().Version; v != 1 {
		t.Errorf("version %d", v)
	}
}
