package pattern

import (
	"fmt"
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, tc := range []struct {
		patterns string // separated by spaces
		fold     bool
		yes, no  string // paths separated by spaces
	}{
		{patterns: "foo", yes: "/foo /a/foo /a/foo/b/c", no: "/ /foobar /a/barfoo /fo"},
		{patterns: "/foo", yes: "/foo /foo/a", no: "/a/foo /"},
		{patterns: "/foo/", yes: "/foo /foo/a", no: "/a/foo"},
		{patterns: "foo/bar", yes: "/foo/bar /a/foo/bar/b", no: "/foo/a/bar /foo /bar/foo"},
		{patterns: "./foo", yes: "/foo /a/foo"},
		{patterns: "a//b", yes: "/a/b"},
		{patterns: "/a/../foo", yes: "/foo", no: "/a/foo"},
		{patterns: "../foo", no: "/foo /a/foo"},
		{patterns: "*", yes: "/a /a/b", no: "/"},
		{patterns: "/", yes: "/ /a /a/b"},
		{patterns: "*.go", yes: "/a.go /b/.go /b.go/c", no: "/a.go.x /ago"},
		{patterns: "cache*", yes: "/cache /a/cache.d/x", no: "/acache"},
		{patterns: "a*b", yes: "/ab /axxb", no: "/a/b /abc"},
		{patterns: "?", yes: "/a /bb/c /é", no: "/ab /"},
		{patterns: "[ab]", yes: "/a /x/b", no: "/c /ab"},
		{patterns: "[^ab]", yes: "/c", no: "/a /b"},
		{patterns: "[!ab]", yes: "/! /a", no: "/c"},
		{patterns: `\[x\]`, yes: "/[x]", no: "/x"},
		{patterns: `star\*`, yes: "/star*", no: "/starry"},
		{patterns: `back\\slash`, yes: `/back\slash`, no: "/backslash"},
		{patterns: `\!neg`, yes: "/!neg", no: "/neg"},
		{patterns: "foo/**/bar", yes: "/foo/bar /foo/x/bar /a/foo/x/y/bar/z", no: "/foo /foo/x /bar/foo"},
		{patterns: "foo/**", yes: "/foo /foo/a /b/foo/c/d", no: "/a"},
		{patterns: "**/foo", yes: "/foo /a/b/foo", no: "/a/b"},
		{patterns: "/**/foo", yes: "/foo /a/b/foo/c", no: "/a/b"},
		{patterns: "**", yes: "/ /a /a/b"},
		{patterns: "/a/**/*", yes: "/a/b /a/b/c", no: "/a /b/a"},
		{patterns: "**/a/**/b/**", yes: "/a/b /x/a/y/b /x/a/y/z/b/c", no: "/a /b/a"},
		{patterns: "x**y", yes: "/xy /xzzy", no: "/x/y"},
		{patterns: "foo !foo/bar", yes: "/foo /foo/baz", no: "/foo/bar /foo/bar/baz"},
		{patterns: "!foo foo", yes: "/foo"},
		{patterns: "* !/xt", no: "/xt /xt/a/b", yes: "/yt /yt/xt"},
		{patterns: "/h/**/* !/h/docs", yes: "/h/music /h/a/docs", no: "/h /h/docs /h/docs/a/b"},
		{patterns: "*.go !H* *.GO", yes: "/H.GO /a.go", no: "/H.go"},
		{patterns: "!*", no: "/a"},
		{patterns: "FOO/*.Go", fold: true, yes: "/foo/a.gO /x/Foo/B.go/c", no: "/fo/a.go"},
		{patterns: "ÄÖ", fold: true, yes: "/äö /ÄÖ"},
		{patterns: "FOO", no: "/foo"},
	} {
		l, err := Compile(strings.Fields(tc.patterns), tc.fold)
		if err != nil {
			t.Errorf("%q: %v", tc.patterns, err)
			continue
		}
		for paths, want := range map[string]bool{tc.yes: true, tc.no: false} {
			for _, p := range strings.Fields(paths) {
				if got := l.Match(p); got != want {
					t.Errorf("%q: Match(%q) = %v", tc.patterns, p, got)
				}
				dir, name := p[:strings.LastIndexByte(p, '/')], p[strings.LastIndexByte(p, '/')+1:]
				if name == "" {
					continue
				}
				if got := l.ExcludedIn(l.Walk(dir), name); got != want {
					t.Errorf("%q: ExcludedIn(%q, %q) = %v", tc.patterns, dir, name, got)
				}
			}
		}
	}
}

func TestCompile(t *testing.T) {
	l, err := Compile([]string{"", "!", "a"}, false)
	if err != nil || l.Len() != 1 {
		t.Errorf("empty patterns: %d left, %v", l.Len(), err)
	}
	for _, bad := range []string{"[", "a/[b", "x[]", `a\`, strings.Repeat("a/", maxParts+1)} {
		if _, err := Compile([]string{"ok", bad}, false); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", bad)) {
			t.Errorf("%q: error %v", bad, err)
		}
	}
	if _, err := Compile([]string{strings.Repeat("**/", maxParts-1) + "a"}, false); err != nil {
		t.Errorf("longest pattern: %v", err)
	}
}

// TestEnterDoesNotChange shows that siblings do not see each other.
func TestEnterDoesNotChange(t *testing.T) {
	l, err := Compile([]string{"a/b", "/x/**/y"}, false)
	if err != nil {
		t.Fatal(err)
	}
	st := l.Walk("/x/a")
	first := l.Enter(st, "b")
	second := l.Enter(st, "c")
	if !l.Excluded(first) || l.Excluded(second) || l.Excluded(st) {
		t.Errorf("excluded: %v %v %v", l.Excluded(first), l.Excluded(second), l.Excluded(st))
	}
}

func BenchmarkExcludedIn(b *testing.B) {
	l, err := Compile([]string{"*.o", "*~", "node_modules", "/home/*/.cache", "a/**/b", "*.py[co]"}, false)
	if err != nil {
		b.Fatal(err)
	}
	st := l.Walk("/home/user/src/project/cmd")
	for b.Loop() {
		if l.ExcludedIn(st, "main.go") {
			b.Fatal("excluded")
		}
	}
}
