package mem_test

import (
	"testing"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/mem"
)

func TestConformance(t *testing.T) {
	backendtest.Run(t, func(*testing.T) backend.Backend { return mem.New() })
}

func TestCloneIsIndependent(t *testing.T) {
	be := mem.New()
	content := []byte("content")
	f := backendtest.FileOf(backend.Index, content)
	if err := be.Save(t.Context(), f, content); err != nil {
		t.Fatal(err)
	}
	clone := be.Clone()
	if err := be.Remove(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if got, err := clone.ReadAll(t.Context(), f, 100); err != nil || string(got) != "content" {
		t.Errorf("clone has %q, %v", got, err)
	}
}
