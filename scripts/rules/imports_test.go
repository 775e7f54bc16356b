package rules

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// layerOf is the architecture: a package may import packages of lower layers, and of its
// own layer only what aside lists. The README's Architecture section is the same as a picture.
var layerOf = map[string]int{
	"repo/blob":       0, // the words everything else is said in
	"repo/shellwords": 0, // how a person writes a command
	"repo/hugepage":   0, // advice to the system about memory

	// Pure formats: bytes in, values out; no I/O.
	"repo/snapshot":            1,
	"repo/chunker":             1,
	"repo/retention":           1,
	"repo/source/pattern":      1,
	"repo/internal/seal":       1,
	"repo/internal/compress":   1,
	"repo/internal/packfile":   1,
	"repo/internal/indexfile":  1,
	"repo/internal/keyfile":    1,
	"repo/internal/sha256many": 1,
	"repo/internal/scrypt":     1,
	"repo/spill":               1, // sorted records on disk, for sets that are too large for memory
	"repo/internal/claims":     2,
	"repo/backend/option":      1,

	"repo/backend/child": 1, // processes, whatever they are; no store is known to it

	// Contracts with the outside and the stores behind them.
	"repo/backend":           2,
	"repo/backend/local":     2,
	"repo/backend/mem":       2,
	"repo/backend/fault":     2,
	"repo/backend/slow":      2,
	"repo/backend/retry":     2,
	"repo/backend/limit":     2,
	"repo/backend/rest":      2,
	"repo/backend/s3":        2,
	"repo/backend/sftp":      2,
	"repo/backend/rclone":    2,
	"repo/backend/transport": 2,
	"cache":                  2,
	"cache/indexdb":          2,
	"cache/blobcache":        2,
	"cache/packcache":        2,
	"repo/source":            2,
	"repo/blobtable":         2,

	"repo":         3, // blobs in, blobs out
	"repo/walk":    3,
	"repo/rewrite": 3, // trees made of trees, for the commands rewrite and repair snapshots

	// Verbs and views: siblings that do not know of each other.
	"repo/archive":  4,
	"repo/check":    4,
	"repo/prune":    4,
	"repo/repair":   4,
	"repo/lock":     4,
	"repo/restore":  4,
	"repo/dump":     4,
	"repo/diff":     4,
	"repo/forget":   4,
	"repo/find":     4,
	"repo/stats":    4,
	"repo/transfer": 4,
	"fs":            4,
	"fs/tree":       4,
	"fs/readahead":  4,

	"cmd/internal/progress": 5,
	"cmd/internal/wiring":   5,
	"cmd/internal/cli":      6,
	"cmd/vitrine":           7,
}

// aside lists the imports inside a layer, each with its reason.
var aside = map[[2]string]string{
	{"repo/internal/packfile", "repo/internal/seal"}:  "a pack header is sealed",
	{"repo/internal/keyfile", "repo/internal/seal"}:   "a key file carries a sealed key",
	{"repo/internal/keyfile", "repo/internal/scrypt"}: "a password becomes a key",
	{"repo/backend/local", "repo/backend"}:            "implements the contract",
	{"repo/backend/mem", "repo/backend"}:              "implements the contract",
	{"repo/backend/fault", "repo/backend"}:            "wraps the contract",
	{"repo/backend/slow", "repo/backend"}:             "wraps the contract",
	{"repo/backend/rest", "repo/backend"}:             "implements the contract",
	{"repo/backend/sftp", "repo/backend"}:             "implements the contract",
	{"repo/backend/transport", "repo/backend"}:        "gives its errors their class",
	{"repo/backend/retry", "repo/backend"}:            "wraps the contract",
	{"repo/backend/limit", "repo/backend"}:            "wraps the contract",
	{"repo/backend/s3", "repo/backend"}:               "implements the contract",
	{"cache/indexdb", "repo/backend"}:                 "its Source tells of files as backend.Info",
	{"cache/indexdb", "cache"}:                        "lives in the cache directory",
	{"cache/blobcache", "cache"}:                      "shares the byte budget",
	{"repo/retention", "repo/snapshot"}:               "its rules look at times and tags of snapshots",
	{"repo/walk", "repo"}:                             "walks what the repository loads",
	{"repo/rewrite", "repo"}:                          "stores the trees that it makes",
	{"repo/rewrite", "repo/walk"}:                     "loads trees ahead",
	{"fs", "fs/tree"}:                                 "serves that tree",
	{"fs", "fs/readahead"}:                            "does what that plans",
	{"repo/backend/rclone", "repo/backend"}:           "implements the contract",
	{"repo/backend/rclone", "repo/backend/rest"}:      "speaks the REST protocol with its child",
	{"repo/backend/rclone", "repo/backend/transport"}: "ends stuck requests as over a network",
	{"cache/packcache", "repo/backend"}:               "wraps the contract",
}

// private names packages that only some others may import, whatever their layer.
// The first entry that matches decides.
var private = []struct {
	target  string // a package or, with a trailing slash, everything below
	only    []string
	why     string
	instead string
}{
	{
		target: "repo/backend/option", only: []string{"repo/backend/"},
		why:     "options of stores are read by the store that knows them",
		instead: "pass the values in the store's Config, or let repo/shellwords split a command",
	}, {
		target: "repo/backend/child", only: []string{"repo/backend/"},
		why:     "stores that are reached through a program run it",
		instead: "reach the store through its backend",
	}, {
		target: "repo/backend/", only: []string{"cmd/internal/wiring", "scripts/indexgen", "scripts/bench", "repo/backend/rclone"},
		why:     "a verb that knows its transport cannot be tested on another one",
		instead: "take a backend.Backend (or a smaller interface declared where it is used) and let cmd/internal/wiring choose",
	}, {
		target: "cache/indexdb", only: []string{"cmd/internal/wiring", "cmd/vitrine", "scripts/indexgen", "scripts/bench"},
		why:     "the index cache is replaceable and never a source of truth",
		instead: "use repo.Index; wiring passes the cache in through repo.Options (main may call BuildMain for the re-executed child)",
	}, {
		target: "cache/packcache", only: []string{"cmd/internal/wiring"},
		why:     "a verb sees a store, whatever is cached of it",
		instead: "take a backend.Backend and let cmd/internal/wiring wrap it",
	}, {
		target: "repo/internal/packfile", only: []string{"repo", "repo/blobtable"},
		why:     "packs have one reader and one writer, package repo; the table compares their sizes with what the layout demands",
		instead: "ask repo for what the format says; if it cannot tell, give it a method",
	}, {
		target: "repo/internal/", only: []string{"repo", "repo/internal/"},
		why:     "stored bytes have one reader and one writer, package repo",
		instead: "ask repo for what the format says; if it cannot tell, give it a method",
	}, {
		target: "cmd/", only: []string{"cmd/vitrine", "cmd/internal/cli", "cmd/internal/wiring"},
		why:     "libraries do not know that a command line exists",
		instead: "pass the value in as an option",
	},
}

// foreign says who may import what from outside the standard library: a dependency with one
// importer can be replaced.
var foreign = []struct {
	prefix string
	only   []string
	why    string
}{
	{"github.com/dgraph-io/", []string{"cache/indexdb"}, "Badger is an implementation detail of the index cache"},
	{"github.com/hanwen/go-fuse/", []string{"fs"}, "the tree behind the mount is free of FUSE types, so that other servers can show it"},
	{"github.com/DataDog/zstd", []string{"repo/internal/compress"}, "one place chooses the compressor"},
	{"github.com/klauspost/compress", []string{"repo/internal/compress"}, "one place chooses the compressor"},
	{"github.com/minio/", []string{"repo/backend/s3"}, "the S3 client is an implementation detail of one store"},
	{"github.com/pkg/sftp", []string{"repo/backend/sftp"}, "one transport speaks SFTP"},
	{"github.com/spf13/", []string{"cmd/internal/cli"}, "commands are parsed in one place"},
	{"github.com/vbauerster/", []string{"cmd/internal/progress"}, "only the terminal printer draws"},
	{"golang.org/x/term", []string{"cmd/"}, "only the command line talks to a terminal"},
	{"golang.org/x/crypto/scrypt", []string{"repo/internal/keyfile", "repo/internal/scrypt"}, "passwords become keys in one place"},
	{"golang.org/x/crypto/poly1305", []string{"repo/internal/seal"}, "sealing has one implementation"},
	{"golang.org/x/crypto", []string{"repo/internal/", "repo"}, "cryptography stays below package repo"},
	{"golang.org/x/sync", []string{""}, "concurrency, anywhere"},
	{"golang.org/x/sys/cpu", []string{"repo/internal/sha256many"}, "what a processor can do is asked where its instructions are"},
	{"golang.org/x/sys", []string{"repo/source", "repo/archive", "repo/restore", "repo/dump", "repo/backend/local", "repo/backend/sftp", "repo/backend/child", "repo/spill", "cache", "cache/", "fs", "fs/", "cmd/", "repo/lock"}, "system calls belong to the packages that meet the system"},
	{"github.com/google/go-cmp", nil, "tests only"},
	{"github.com/rogpeppe/go-internal", nil, "tests only"},
}

// TestImports holds every import of every package against the tables above.
func TestImports(t *testing.T) {
	known := map[string]bool{}
	for _, f := range sources(t) {
		known[f.dir()] = true
		for _, b := range importFindings(f) {
			t.Error(b)
		}
	}
	for dir := range layerOf {
		if !known[dir] {
			t.Errorf("scripts/rules: package %s stands in layerOf but has no files: remove it there", dir)
		}
	}
}

func importFindings(f file) []finding {
	var found []finding
	for _, spec := range f.ast.Imports {
		target, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			found = append(found, f.finding(spec, rule{what: "import path " + spec.Path.Value}))
			continue
		}
		if within, ok := strings.CutPrefix(target, "vitrine/"); ok {
			found = append(found, inside(f, spec, within)...)
		} else if strings.Contains(strings.SplitN(target, "/", 2)[0], ".") {
			found = append(found, outside(f, spec, target)...)
		}
	}
	if dir := f.dir(); !f.isTest() && !isTestPackage(dir) && !strings.HasPrefix(dir, "scripts/") {
		if _, ok := layerOf[dir]; !ok {
			found = append(found, f.finding(f.ast, rule{
				what:    "package " + dir + " has no layer",
				why:     "imports go down only, and a package without a layer has no down",
				instead: "enter it in layerOf in scripts/rules and in the README's Architecture section",
			}))
		}
	}
	return found
}

// inside judges an import of one of our own packages.
func inside(f file, at ast.Node, target string) []finding {
	from := f.dir()
	if f.isTest() || isTestPackage(from) {
		return nil // tests may look up: every repository a test made is checked at its end
	}
	if isTestPackage(target) {
		return []finding{f.finding(at, rule{
			what:    fmt.Sprintf("%s imports the test package %s", from, target),
			why:     "test code must not be part of the program",
			instead: "import it from _test.go files only",
		})}
	}
	if strings.HasPrefix(target, "scripts/") && !strings.HasPrefix(from, "scripts/") {
		return []finding{f.finding(at, rule{
			what: fmt.Sprintf("%s imports %s", from, target), why: "scripts serve the project and are no part of the program",
			instead: "move what is shared into a package of a layer",
		})}
	}
	for _, p := range private {
		if !matches(p.target, target) {
			continue
		}
		if allowed(p.only, from) {
			break
		}
		return []finding{f.finding(at, rule{
			what: fmt.Sprintf("%s imports %s, which only %s may", from, target, strings.Join(p.only, ", ")),
			why:  p.why, instead: p.instead,
		})}
	}
	if strings.HasPrefix(from, "scripts/") {
		return nil
	}
	low, ok := layerOf[target]
	if _, excepted := aside[[2]string{from, target}]; excepted || (ok && low < layerOf[from]) {
		return nil
	}
	return []finding{f.finding(at, rule{
		what:    fmt.Sprintf("%s (layer %d) imports %s (layer %d)", from, layerOf[from], target, low),
		why:     "imports go down only; siblings that know each other can no longer be understood, tested or replaced alone",
		instead: "declare the small interface you need where you use it, or move the shared part one layer down; a real exception goes into aside with its reason",
	})}
}

// outside judges an import of somebody else's module.
func outside(f file, at ast.Node, target string) []finding {
	if f.isTest() || isTestPackage(f.dir()) || strings.HasPrefix(f.dir(), "scripts/") {
		return nil
	}
	for _, e := range foreign {
		if !strings.HasPrefix(target, e.prefix) {
			continue
		}
		if allowed(e.only, f.dir()) {
			return nil
		}
		return []finding{f.finding(at, rule{
			what:    fmt.Sprintf("%s imports %s", f.dir(), target),
			why:     e.why,
			instead: "go through the package that owns it, or widen its entry in foreign with a reason",
		})}
	}
	return []finding{f.finding(at, rule{
		what:    fmt.Sprintf("%s imports %s, which no table knows", f.dir(), target),
		why:     "each dependency is a decision",
		instead: "do without, or enter it in foreign in scripts/rules with its importers and reason",
	})}
}

func isTestPackage(dir string) bool { return strings.HasSuffix(path.Base(dir), "test") }

func allowed(only []string, from string) bool {
	return slices.ContainsFunc(only, func(pattern string) bool { return matches(pattern, from) })
}

// matches tells whether dir is the pattern or, when the pattern is empty or ends in a
// slash, lies below it.
func matches(pattern, dir string) bool {
	if pattern == "" || strings.HasSuffix(pattern, "/") {
		return strings.HasPrefix(dir, pattern)
	}
	return dir == pattern
}
