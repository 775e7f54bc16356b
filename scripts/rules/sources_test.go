package rules

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the module's root, seen from this package.
const root = "../.."

// rule is what is forbidden, why, and what to do instead.
type rule struct{ what, why, instead string }

// finding is one place that breaks a rule.
type finding struct {
	at string
	rule
}

func (b finding) String() string {
	return fmt.Sprintf("%s: %s\n\twhy:     %s\n\tinstead: %s", b.at, b.what, b.why, b.instead)
}

// file is one parsed Go file.
type file struct {
	path  string // slash-separated, from the module's root
	lines int
	fset  *token.FileSet
	ast   *ast.File
}

func (f file) dir() string  { return path.Dir(f.path) }
func (f file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// isLibrary tells whether the file is part of the program but not of its command line.
func (f file) isLibrary() bool {
	return !f.isTest() && !strings.HasPrefix(f.path, "cmd/") && !strings.HasPrefix(f.path, "scripts/")
}

func (f file) finding(at ast.Node, r rule) finding {
	return finding{fmt.Sprintf("%s:%d", f.path, f.fset.Position(at.Pos()).Line), r}
}

func parse(name string, content []byte) (file, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, name, content, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return file{}, err
	}
	return file{path: name, lines: strings.Count(string(content), "\n"), fset: fset, ast: tree}, nil
}

// sources parses every Go file of the module, whatever its build tags.
func sources(t *testing.T) []file {
	t.Helper()
	var all []file
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if p != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		content, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		f, err := parse(filepath.ToSlash(rel), content)
		all = append(all, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("found only %d Go files from %s: looking in the wrong place?", len(all), root)
	}
	return all
}

const (
	maxFileLines = 600
	maxFuncLines = 90
)

var wordless = []string{"util", "utils", "common", "helper", "helpers", "manager", "data", "misc"}

var promise = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)

// prints lists the library files that may touch the process's own streams, with the reason.
var prints = map[string]string{
	"cache/indexdb/builder.go": "the whole of a child process, of which main only knows the name",
}

// houseRules returns what a single file breaks.
func houseRules(f file) []finding {
	var found []finding
	report := func(at ast.Node, what, why, instead string) {
		found = append(found, f.finding(at, rule{what, why, instead}))
	}
	if f.lines > maxFileLines {
		report(f.ast, fmt.Sprintf("%d lines", f.lines), "what does not fit into a head is not reviewed",
			fmt.Sprintf("split it by responsibility; the limit is %d lines", maxFileLines))
	}
	if name := strings.TrimSuffix(f.ast.Name.Name, "_test"); slices.Contains(wordless, name) {
		report(f.ast, "package "+name, "the name says nothing, so everything ends up in it", "name it after what it does")
	}
	for _, group := range f.ast.Comments {
		for _, c := range group.List {
			if word := promise.FindString(c.Text); word != "" {
				report(c, word+" in a comment", "a promise in a comment is kept by nobody", "do it now or file an issue")
			}
		}
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			functionRules(f, n, report)
		case *ast.SelectorExpr:
			selectorRules(f, n, report)
		case *ast.StructType:
			for _, field := range n.Fields.List {
				if isSelector(field.Type, "context", "Context") && !f.isTest() {
					report(field, "context.Context in a struct", "its lifetime cannot be seen from the call", "pass it as the first argument")
				}
			}
		case *ast.BasicLit:
			// Put together from parts, so that this file does not break its own rule.
			if n.Kind == token.STRING && (strings.Contains(n.Value, ".."+"/shared") || strings.Contains(n.Value, "/work"+"/")) {
				report(n, "a path outside the repository: "+n.Value, "a clone of this repository must be enough to build and test",
					"keep what is needed under testdata")
			}
		}
		return true
	})
	return found
}

type reporter func(at ast.Node, what, why, instead string)

func functionRules(f file, n *ast.FuncDecl, report reporter) {
	if n.Name.Name == "init" && n.Recv == nil {
		report(n, "func init", "order of initialisation is invisible, and registration hides who depends on whom",
			"construct it in cmd/internal/wiring, or use a package variable")
	}
	if n.Body == nil {
		return
	}
	if lines := f.fset.Position(n.End()).Line - f.fset.Position(n.Pos()).Line + 1; lines > maxFuncLines && !f.isTest() {
		report(n, fmt.Sprintf("func %s has %d lines", n.Name.Name, lines), "a function you cannot see at once hides its mistakes",
			fmt.Sprintf("split it by step; the limit is %d lines", maxFuncLines))
	}
}

func selectorRules(f file, n *ast.SelectorExpr, report reporter) {
	x, ok := n.X.(*ast.Ident)
	if !ok {
		return
	}
	name := x.Name + "." + n.Sel.Name
	if f.isTest() {
		switch name {
		case "t.Skip", "t.Skipf", "t.SkipNow", "b.Skip", "b.Skipf", "b.SkipNow", "tb.Skip", "tb.Skipf", "tb.SkipNow", "f.Skip", "testing.Short":
			report(n, name, "a skipped test is a hole that nobody sees", "install what is missing in scripts/setup, or make the test smaller")
		}
		return
	}
	if !f.isLibrary() || isTestPackage(f.dir()) {
		return
	}
	switch {
	case name == "os.Exit" || strings.HasPrefix(name, "log.Fatal") || strings.HasPrefix(name, "log.Panic"):
		report(n, name, "it runs no deferred call: locks, mounts and temporary files stay", "return an error; exit codes are made in cmd/internal/cli")
	case name == "context.Background" || name == "context.TODO":
		report(n, name, "the work can no longer be cancelled", "take a ctx as first argument; context.WithoutCancel for clean-up that must still run")
	case prints[f.path] != "":
	case strings.HasPrefix(name, "fmt.Print") || name == "os.Stdout" || name == "os.Stderr" || strings.HasPrefix(name, "log.Print"):
		report(n, name, "a library that prints breaks --json, --quiet and every other caller", "return it, report it through an interface, or log to the *slog.Logger you are given")
	case name == "slog.Debug" || name == "slog.Info" || name == "slog.Warn" || name == "slog.Error" || name == "slog.SetDefault":
		report(n, name, "a global logger cannot be told where to write", "take a *slog.Logger")
	}
}

func isSelector(e ast.Expr, pkg, name string) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == pkg && s.Sel.Name == name
}

// TestHouseRules applies the rules to every file of the module.
func TestHouseRules(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range sources(t) {
		for _, b := range houseRules(f) {
			t.Error(b)
		}
		if !f.isTest() {
			documented[f.dir()] = documented[f.dir()] || f.ast.Doc != nil
		}
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s: no package comment\n\twhy:     a package is understood by the sentence above it\n\tinstead: say what it is responsible for", dir)
		}
	}
}

// TestRulesFind shows that each rule can fail: every source here breaks exactly one.
func TestRulesFind(t *testing.T) {
	cases := []struct {
		name, path, source, want string
	}{
		{"upward import", "repo/blob/x.go", `import _ "vitrine/repo"`, "imports go down only"},
		{"sibling import", "repo/archive/x.go", `import _ "vitrine/repo/check"`, "imports go down only"},
		{"concrete backend", "repo/archive/x.go", `import _ "vitrine/repo/backend/local"`, "cannot be tested on another"},
		{"concrete cache", "cmd/internal/cli/x.go", `import _ "vitrine/cache/indexdb"`, "never a source of truth"},
		{"codec from above", "repo/check/x.go", `import _ "vitrine/repo/internal/seal"`, "one reader and one writer"},
		{"test package in the program", "repo/archive/x.go", `import _ "vitrine/repo/source/sourcetest"`, "part of the program"},
		{"foreign module in the wrong place", "fs/tree/x.go", `import _ "github.com/hanwen/go-fuse/v2/fuse"`, "free of FUSE types"},
		{"unknown module", "repo/x.go", `import _ "example.org/left-pad"`, "each dependency is a decision"},
		{"package without a layer", "repo/extra/x.go", ``, "has no down"},
		{"long file", "repo/x.go", strings.Repeat("\n", 601), "does not fit into a head"},
		{"long function", "repo/x.go", "func f() {" + strings.Repeat("\n", 90) + "}", "cannot see at once"},
		{"init", "repo/x.go", `func init() {}`, "invisible"},
		{"exit", "repo/x.go", `func f() { os.Exit(1) }`, "no deferred call"},
		{"background", "repo/x.go", `func f() { g(context.Background()) }`, "no longer be cancelled"},
		{"print", "fs/x.go", `func f() { fmt.Println() }`, "a library that prints"},
		{"global logger", "fs/x.go", `func f() { slog.Info("x") }`, "global logger"},
		{"context in a struct", "repo/x.go", `type t struct { ctx context.Context }`, "lifetime"},
		{"to do", "repo/x.go", "// TODO: later", "kept by nobody"},
		{"skip", "repo/x_test.go", `func f(t *testing.T) { t.Skip() }`, "a hole that nobody sees"},
		{"outside path", "repo/x_test.go", `var p = "` + "../.." + `/shared/FORMAT.md"`, "a clone of this repository"},
		{"empty name", "repo/x.go", "package util", "says nothing"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if !strings.HasPrefix(c.source, "package ") {
				c.source = "package x\n" + c.source
			}
			f, err := parse(c.path, []byte(c.source))
			if err != nil {
				t.Fatal(err)
			}
			found := append(importFindings(f), houseRules(f)...)
			if len(found) != 1 || !strings.Contains(found[0].String(), c.want) {
				t.Errorf("found %v, want one finding with %q", found, c.want)
			}
		})
	}
}
