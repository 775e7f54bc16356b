package repo_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
	"vitrine/repo/snapshot"
)

// Whatever call of a change of tags fails, the snapshot is there, with the old tags or the new ones
// or both; with the new ones alone when there was no error.
func TestReplaceSnapshotThatFails(t *testing.T) {
	tree := blob.Hash([]byte("tree"))
	for _, mode := range []fault.Mode{fault.None, fault.Before, fault.After} {
		for n := 0; ; n++ {
			store := mem.New()
			repotest.Init(t, store, 2)
			be := fault.New(store, nil)
			r := repotest.Open(t, be)
			if _, err := r.SaveSnapshot(t.Context(), &snapshot.Snapshot{Time: time.Now(), Tree: &tree, Tags: []string{"old"}}); err != nil {
				t.Fatal(err)
			}
			all, err := r.Snapshots(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			changed, _ := snapshot.TagChange{Replace: true, Set: []string{"new"}}.Apply(all[0])
			before := be.Calls()
			be.SetPlan(fault.Nth(before+n, mode))
			err = r.ReplaceSnapshot(t.Context(), all[0].ID, changed)
			calls := be.Calls() - before
			left, listErr := repotest.Open(t, store).Snapshots(t.Context())
			if listErr != nil {
				t.Fatal(listErr)
			}
			var tags []string
			for _, sn := range left {
				tags = append(tags, strings.Join(sn.Tags, ","))
			}
			slices.Sort(tags)
			got := strings.Join(tags, " ")
			switch {
			case err == nil && got != "new":
				t.Errorf("call %d failed (%v), no error: left are %q", n, mode, got)
			case err != nil && (calls <= n || got != "old" && got != "new" && got != "new old"):
				t.Errorf("call %d failed (%v), %v: left are %q", n, mode, err, got)
			}
			if n == 0 && mode != fault.None && got != "old" {
				t.Errorf("the save failed (%v): left are %q", mode, got)
			}
			if mode == fault.None || calls <= n {
				break
			}
		}
	}
}

// open opens the repository with a password.
func open(t *testing.T, be backend.Backend, password string) (*repo.Repository, error) {
	t.Helper()
	r, err := repo.Open(t.Context(), be, repo.Options{Password: []byte(password)})
	if err == nil {
		t.Cleanup(func() { r.Close() })
	}
	return r, err
}

func TestKeys(t *testing.T) {
	r, be := repotest.New(t, 2)
	o := repo.KeyOptions{Password: []byte("second"), Username: "u", Hostname: "h", KDF: repotest.KDF}
	id, err := r.AddKey(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := r.Keys(t.Context())
	if err != nil || len(keys) != 2 {
		t.Fatalf("%v, %v", keys, err)
	}
	for _, k := range keys {
		want := repo.KeyInfo{ID: k.ID, Current: true, Created: k.Created, Hostname: "host"}
		if k.ID == id {
			want = repo.KeyInfo{ID: id, Created: k.Created, Username: "u", Hostname: "h"}
		}
		if k != want || time.Since(k.Created) > time.Minute {
			t.Errorf("%+v, want %+v", k, want)
		}
	}
	second, err := open(t, be, "second")
	if err != nil || second.KeyID() != id {
		t.Fatalf("the second key does not open: %v", err)
	}
	if err := second.RemoveKey(t.Context(), id); !errors.Is(err, repo.ErrKeyInUse) {
		t.Errorf("RemoveKey of its own key: %v", err)
	}
	if err := second.RemoveKey(t.Context(), r.KeyID()); err != nil {
		t.Error(err)
	}
	if err := second.RemoveKey(t.Context(), r.KeyID()); !errors.Is(err, backend.ErrNotExist) {
		t.Errorf("RemoveKey of a key that is gone: %v", err)
	}
	if _, err := open(t, be, repotest.Password); !errors.Is(err, repo.ErrWrongPassword) {
		t.Errorf("the key that was removed: %v", err)
	}

	// A damaged one is named beside the others; a foreign file is no key.
	bad := backend.File{Kind: backend.Key, Name: blob.Hash([]byte("x")).String()}
	if err := be.Save(t.Context(), bad, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	keys, err = second.Keys(t.Context())
	if len(keys) != 1 || keys[0].ID != id || !errors.Is(err, repo.ErrCorrupt) || !strings.Contains(err.Error(), bad.Name[:8]) {
		t.Errorf("%v, %v", keys, err)
	}
}

// Whatever call of a change of password fails, the repository opens with one of the two; with the new
// one alone when there was no error, with the old one when the new key could not be stored.
func TestChangePasswordThatFails(t *testing.T) {
	for _, mode := range []fault.Mode{fault.None, fault.Before, fault.After, fault.Short, fault.Corrupt} {
		for n := 0; ; n++ {
			store := mem.New()
			repotest.Init(t, store, 2)
			be := fault.New(store, nil)
			r := repotest.Open(t, be)
			before := be.Calls()
			be.SetPlan(fault.Nth(before+n, mode))
			_, err := r.ChangePassword(t.Context(), repo.KeyOptions{Password: []byte("new"), KDF: repotest.KDF})
			calls := be.Calls() - before
			_, oldErr := open(t, store, repotest.Password)
			_, newErr := open(t, store, "new")
			switch {
			case err == nil && (newErr != nil || oldErr == nil):
				t.Errorf("call %d failed (%v), no error: old %v, new %v", n, mode, oldErr, newErr)
			case err != nil && calls <= n:
				t.Error(err)
			case err != nil && oldErr != nil && newErr != nil:
				t.Errorf("call %d failed (%v), %v: nothing opens the repository: old %v, new %v", n, mode, err, oldErr, newErr)
			case err != nil && n < 2 && (oldErr != nil || newErr == nil):
				t.Errorf("the new key failed (call %d, %v), %v: old %v, new %v", n, mode, err, oldErr, newErr)
			case errors.Is(err, repo.ErrWrongPassword):
				t.Errorf("call %d failed (%v): it is not the user's password that is wrong: %v", n, mode, err)
			}
			if mode == fault.None || calls <= n {
				if calls < 3 {
					t.Errorf("only %d calls", calls)
				}
				break
			}
		}
	}
}

// Under a lock that is lost nothing is changed: no key, no snapshot, and the error says so and no more.
func TestNoChangeWithoutLock(t *testing.T) {
	store := mem.New()
	repotest.Init(t, store, 2)
	be := fault.New(store, nil)
	r := repotest.Open(t, be)
	tree := blob.Hash([]byte("tree"))
	if _, err := r.SaveSnapshot(t.Context(), &snapshot.Snapshot{Time: time.Now(), Tree: &tree}); err != nil {
		t.Fatal(err)
	}
	all, err := r.Snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	changed, _ := snapshot.TagChange{Replace: true, Set: []string{"new"}}.Apply(all[0])
	lost := errors.New("the lock is lost")
	ctx := repo.WithLockCheck(t.Context(), func(context.Context) error { return lost })
	before := be.Calls()
	o := repo.KeyOptions{Password: []byte("new"), KDF: repotest.KDF}
	_, addErr := r.AddKey(ctx, o)
	_, passwdErr := r.ChangePassword(ctx, o)
	for what, err := range map[string]error{
		"ReplaceSnapshot": r.ReplaceSnapshot(ctx, all[0].ID, changed), "AddKey": addErr, "ChangePassword": passwdErr,
		"RemoveKey": r.RemoveKey(ctx, blob.Hash([]byte("other"))),
	} {
		if !errors.Is(err, lost) || strings.Contains(err.Error(), "may be there") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if calls := be.Calls() - before; calls != 0 {
		t.Errorf("%d calls of the backend", calls)
	}

	// Lost between two changes: what was half done is still taken back.
	be.SetPlan(fault.Nth(be.Calls(), fault.After))
	asked := 0
	ctx = repo.WithLockCheck(t.Context(), func(context.Context) error {
		if asked++; asked > 1 {
			return lost
		}
		return nil
	})
	if err := r.ReplaceSnapshot(ctx, all[0].ID, changed); err == nil {
		t.Error("a save that failed is no error")
	}
	left, err := repotest.Open(t, store).Snapshots(t.Context())
	if err != nil || len(left) != 1 || left[0].ID != all[0].ID {
		t.Errorf("left are %d snapshots, %v", len(left), err)
	}
}
