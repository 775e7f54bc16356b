package source

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// show prints a plan: names, + behind targets, the path where it is not the name.
func show(b *Branch, indent string, out *strings.Builder) {
	for _, c := range b.Children {
		fmt.Fprintf(out, "%s%s", indent, c.Name)
		if c.Target {
			out.WriteByte('+')
		}
		fmt.Fprintf(out, " %s\n", c.Path)
		show(c, indent+"  ", out)
	}
}

func TestPlan(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"x/a", "cwd/x/b", "cwd/x-1", "cwd/sub/deep", "x-1"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "cwd/top"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(root, "cwd"))
	for _, tc := range []struct{ targets, want string }{
		{"sub", "sub+ sub\n"},
		{"./sub/", "sub+ sub\n"},
		{"sub/../top", "top+ top\n"},
		{"sub/deep top", "sub sub\n  deep+ sub/deep\ntop+ top\n"},
		{"top sub", "sub+ sub\ntop+ top\n"},
		{"sub sub", "sub+ sub\n"},
		{"sub sub/deep", "sub+ sub\n  deep+ sub/deep\n"},
		{"sub/deep sub", "sub+ sub\n  deep+ sub/deep\n"},
		{".", "sub+ sub\ntop+ top\nx+ x\nx-1+ x-1\n"},
		{"..", "cwd+ ../cwd\nx+ ../x\nx-1+ ../x-1\n"},
		{"/a/b /a/c /d", "a /a\n  b+ /a/b\n  c+ /a/c\nd+ /d\n"},
		{"../x/a x/b", "x ../x\n  a+ ../x/a\nx-1 x\n  b+ x/b\n"},
		{"x/b ../x x/a", "x x\n  a+ x/a\n  b+ x/b\nx-1+ ../x\n"},
		{"../x x ../x-1", "x+ ../x\nx-1+ x\nx-1-1+ ../x-1\n"},
		{"../x x-1 x", "x+ ../x\nx-1+ x-1\nx-2+ x\n"},
		{"../../a/x ../x x", "a ../../a\n  x+ ../../a/x\nx+ ../x\nx-1+ x\n"},
		{"/x x ../x ../../x", "x+ /x\nx-1+ x\nx-2+ ../x\nx-3+ ../../x\n"},
		{"/", ""},
	} {
		plan, err := Plan(strings.Fields(tc.targets))
		if err != nil {
			t.Errorf("%s: %v", tc.targets, err)
			continue
		}
		if tc.targets == "/" {
			if len(plan.Children) < 3 {
				t.Errorf("/ has %d entries", len(plan.Children))
			}
			continue
		}
		var got strings.Builder
		show(plan, "", &got)
		if diff := cmp.Diff(tc.want, got.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.targets, diff)
		}
	}
	if _, err := Plan([]string{"../../" + filepath.Base(root) + "/../none/.."}); err != nil {
		t.Errorf("cleaned by name: %v", err)
	}
	abs, err := Abs([]string{"sub/../x", "/a//b", ".."})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{filepath.Join(root, "cwd/x"), "/a/b", root}, abs); diff != "" {
		t.Errorf("Abs (-want +got):\n%s", diff)
	}
}
