package repo_test

import (
	"testing"

	"vitrine/repo"
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
