package repo_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/fault"
	"vitrine/repo/backend/mem"
	"vitrine/repo/repotest"
)

// Whatever an Init that fails leaves behind, it is a repository that opens or none at all.
func TestInitThatFails(t *testing.T) {
	for _, mode := range []fault.Mode{fault.Before, fault.After} {
		for n := 0; ; n++ {
			store := mem.New()
			be := fault.New(store, fault.Nth(n, mode))
			o := repo.InitOptions{Password: []byte(repotest.Password), KDF: repotest.KDF}
			_, err := repo.Init(t.Context(), be, o)
			if be.Calls() <= n {
				break
			}
			if err != nil {
				_, err = repo.Init(t.Context(), store, o)
			}
			if err != nil {
				_, err = repo.Open(t.Context(), store, repotest.Options())
			}
			if err != nil {
				t.Errorf("call %d failed (%v): neither Init nor Open after it: %v", n, mode, err)
			}
		}
	}
}

// killed is a store from which a process can save nothing more once it has saved a key, nor remove any.
type killed struct {
	backend.Backend
	dead bool
}

var errKilled = errors.New("killed")

func (k *killed) Save(ctx context.Context, f backend.File, content []byte) error {
	if k.dead {
		return errKilled
	}
	k.dead = f.Kind == backend.Key
	return k.Backend.Save(ctx, f, content)
}

func (k *killed) Remove(context.Context, backend.File) error { return errKilled }

// An Init that was killed after its key and before its config can be made again with the same password, and
// nothing else is taken for one.
func TestInitAgain(t *testing.T) {
	for name, c := range map[string]struct {
		password string
		more     backend.Kind // a file of it lies there too; Config: none
		want     []string     // of the error; nil: it works
	}{
		"same password":  {password: repotest.Password},
		"other password": {password: "another", want: []string{"interrupted init", "wrong password", "keys/"}},
		"a snapshot":     {password: repotest.Password, more: backend.Snapshot, want: []string{"snapshot", "config is lost"}},
		"a pack":         {password: repotest.Password, more: backend.Pack, want: []string{"pack", "config is lost"}},
	} {
		t.Run(name, func(t *testing.T) {
			store := mem.New()
			o := repo.InitOptions{Password: []byte(repotest.Password), KDF: repotest.KDF}
			if _, err := repo.Init(t.Context(), &killed{Backend: store}, o); !errors.Is(err, errKilled) {
				t.Fatalf("the first Init: %v", err)
			}
			if c.more != backend.Config {
				if err := store.Save(t.Context(), backendtest.FileOf(c.more, []byte("x")), []byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			o.Password = []byte(c.password)
			_, err := repo.Init(t.Context(), store, o)
			if c.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				repotest.Open(t, store)
			} else if !errors.Is(err, repo.ErrExists) {
				t.Errorf("%v, want ErrExists", err)
			}
			for _, word := range c.want {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("error %q, want %q in it", err, word)
				}
			}
			keys := 0
			if err := store.List(t.Context(), backend.Key, func(backend.Info) error { keys++; return nil }); err != nil || keys != 1 {
				t.Errorf("%d keys, want the one that was there, %v", keys, err)
			}
		})
	}
}

// A config that cannot be stored takes no key with it that was there before.
func TestInitAgainFails(t *testing.T) {
	store := mem.New()
	o := repo.InitOptions{Password: []byte(repotest.Password), KDF: repotest.KDF}
	for _, be := range []backend.Backend{&killed{Backend: store}, &killed{Backend: store, dead: true}} {
		if _, err := repo.Init(t.Context(), be, o); !errors.Is(err, errKilled) {
			t.Fatalf("Init: %v", err)
		}
	}
	if _, err := repo.Init(t.Context(), store, o); err != nil {
		t.Error(err)
	}
	repotest.Open(t, store)
}
