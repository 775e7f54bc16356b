package cache

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestList(t *testing.T) {
	base := t.TempDir()
	if list, err := List(filepath.Join(base, "missing")); len(list) != 0 || err != nil {
		t.Errorf("no base: %v, %v", list, err)
	}
	now := time.Now().Truncate(time.Second)
	var want []Info
	for i, name := range []string{strings.Repeat("a", 64), strings.Repeat("b", 64), "notes", strings.Repeat("c", 63)} {
		path := filepath.Join(base, "vitrine", name)
		if err := os.MkdirAll(filepath.Join(path, "packs", "data"), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"index", "packs/data/x", "packs/data/y"} {
			if err := os.WriteFile(filepath.Join(path, file), make([]byte, 1000*(i+1)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		used := now.Add(time.Duration(i) * time.Hour)
		if err := os.Chtimes(path, used, used); err != nil {
			t.Fatal(err)
		}
		if len(name) == 64 {
			want = append([]Info{{name, path, used}}, want...)
		}
	}
	if err := os.WriteFile(filepath.Join(base, "vitrine", strings.Repeat("d", 64)), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := List(base)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Fatal(diff)
	}
	if n, err := list[0].Size(); n != 6000 || err != nil {
		t.Errorf("size %d, %v; want 6000", n, err)
	}
	if err := list[0].Remove(); err != nil {
		t.Error(err)
	}
	if n, err := list[0].Size(); n != 0 || err != nil {
		t.Errorf("size of a cache that is gone: %d, %v", n, err)
	}
	if list, err = List(base); err != nil || len(list) != 1 {
		t.Errorf("after a removal: %v, %v", list, err)
	}
}
