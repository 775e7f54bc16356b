package main

import (
	"testing"

	"vitrine/cache/indexdb"
	"vitrine/repo"
	"vitrine/repo/backend/local"
	"vitrine/repo/repotest"
)

// The entries are valid to those who read them, as many as asked for and different for each file and seed.
func TestRun(t *testing.T) {
	for _, version := range []uint{1, 2} {
		dir := t.TempDir()
		be, err := local.Create(dir)
		if err != nil {
			t.Fatal(err)
		}
		repotest.Init(t, be, version)
		total := int64(0)
		for _, o := range []options{
			{entries: entriesPerFile + 123, blobsPerPack: 50, seed: 1},
			{entries: 200, blobsPerPack: 300, seed: 2},
			{entries: 0, blobsPerPack: 1},
		} {
			o.repo, o.password = dir, repotest.Password
			if _, err := run(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			total += int64(o.entries)
		}
		r, err := repo.Open(t.Context(), be, repo.Options{Password: []byte(repotest.Password)})
		if err != nil {
			t.Fatal(err)
		}
		m, err := indexdb.OpenMemory(t.Context(), r, indexdb.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if s := m.Stats(); s.Entries != total || s.IndexFiles != 3 {
			t.Errorf("version %d: %+v, want %d entries in 3 files", version, s, total)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := run(t.Context(), options{}); err == nil {
		t.Error("no repository was taken")
	}
	if _, err := run(t.Context(), options{repo: t.TempDir(), blobsPerPack: 1}); err == nil {
		t.Error("an empty directory was taken for a repository")
	}
}
