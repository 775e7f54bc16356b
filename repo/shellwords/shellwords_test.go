package shellwords_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/shellwords"
)

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		in    string
		want  []string
		fails string
	}{
		{"", nil, ""},
		{"  pass  show\tbackup ", []string{"pass", "show", "backup"}, ""},
		{`pass 'two words' "and 'more'" a\ b`, []string{"pass", "two words", "and 'more'", "a b"}, ""},
		{`sh -c "echo \"x\""`, []string{"sh", "-c", `echo "x"`}, ""},
		{`'back\slash'`, []string{`back\slash`}, ""},
		{"a 'b", nil, "is not closed"},
		{`"a\"b\\\$c\d" e\ f ''`, []string{`a"b\$c\d`, "e f", ""}, ""},
		{`"b\"`, nil, "is not closed"},
		{"a\nb", []string{"a", "b"}, ""},
		{`a '' b`, []string{"a", "", "b"}, ""},
		{`a"b"'c'`, []string{"abc"}, ""},
		{`it's`, nil, "is not closed"},
		{`"open`, nil, "is not closed"},
		{`end\`, nil, "last backslash"},
	} {
		got, err := shellwords.Split(c.in)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("Split(%q): error %v, want %q", c.in, err, c.fails)
			}
			continue
		}
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("Split(%q): %v %s", c.in, err, diff)
		}
	}
}
