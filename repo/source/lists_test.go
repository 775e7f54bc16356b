package source

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestReadPatterns(t *testing.T) {
	env := func(name string) string { return map[string]string{"HOME": "/home/u", "X": "y z"}[name] }
	utf16le := "\xff\xfea\x00b\x00\n\x00=\xd8\x00\xde" // "ab", then a surrogate pair
	for in, want := range map[string][]string{
		"": nil,
		"# all go files\n*.go\n\n  spaced out \t\r\n#x\n": {"*.go", "spaced out"},
		"$HOME/${X}/a\n$$5 $NONE.\n":                      {"/home/u/y z/a", "$5 ."},
		"!keep\nlast":                                     {"!keep", "last"},
		"\xef\xbb\xbfbom\n":                               {"bom"},
		utf16le:                                           {"ab", "\U0001f600"},
		"\xfe\xff\x00a\x00#":                              {"a#"},
	} {
		got, err := ReadPatterns(strings.NewReader(in), env)
		if err != nil {
			t.Errorf("%q: %v", in, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", in, diff)
		}
	}
	if _, err := ReadPatterns(strings.NewReader("\xff\xfea"), env); err == nil {
		t.Error("half a UTF-16 unit is taken")
	}
}

func TestReadTargets(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a1", "a2", "b", "[c]"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	got, unmatched, err := ReadGlobs(strings.NewReader("# comment\na*\n b \n\\[c\\]\nnone*\n[c]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]string{{"a1", "a2", "b", "[c]"}, {"none*", "[c]"}}, [][]string{got, unmatched}); diff != "" {
		t.Errorf("ReadGlobs (-want +got):\n%s", diff)
	}
	if _, _, err := ReadGlobs(strings.NewReader("a[\n")); !errors.Is(err, filepath.ErrBadPattern) {
		t.Errorf("bad pattern: %v", err)
	}

	got, err = ReadVerbatim(strings.NewReader("a*\n\n#x\n  y \nz"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a*", "#x", "  y ", "z"}, got); diff != "" {
		t.Errorf("ReadVerbatim (-want +got):\n%s", diff)
	}

	got, err = ReadRaw(strings.NewReader("a\nb\x00\xff\x00"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a\nb", "\xff"}, got); diff != "" {
		t.Errorf("ReadRaw (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"a", "a\x00b", "\x00", "a\x00\x00b\x00"} {
		if _, err := ReadRaw(strings.NewReader(bad)); err == nil {
			t.Errorf("ReadRaw(%q) is taken", bad)
		}
	}
	if got, err := ReadRaw(strings.NewReader("")); got != nil || err != nil {
		t.Errorf("empty list: %q %v", got, err)
	}
	for name, read := range map[string]func() error{
		"ReadGlobs":    func() error { _, _, err := ReadGlobs(iotest.ErrReader(os.ErrPermission)); return err },
		"ReadVerbatim": func() error { _, err := ReadVerbatim(iotest.ErrReader(os.ErrPermission)); return err },
		"ReadRaw":      func() error { _, err := ReadRaw(iotest.ErrReader(os.ErrPermission)); return err },
	} {
		if err := read(); !errors.Is(err, os.ErrPermission) {
			t.Errorf("%s passes over a read error: %v", name, err)
		}
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "2048": 2048, "1k": 1 << 10, "10K": 10 << 10, "20m": 20 << 20, "3G": 3 << 30, "2T": 2 << 40, "1t": 1 << 40,
	} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "k", "-1", "1kb", "1.5m", "9999999999999999999", "9999999999999t", "1 k"} {
		if got, err := ParseSize(bad); err == nil {
			t.Errorf("ParseSize(%q) = %d", bad, got)
		}
	}
}
