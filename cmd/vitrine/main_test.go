package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"vitrine/cache/indexdb"
	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/lock"
)

// password opens every repository of the scripts; $VITRINE_PASSWORD holds it there.
const password = "correct horse battery staple"

// TestMain makes the test binary a vitrine too: under that name it runs the program, and with the
// builder's argument it is the child process that the program starts of itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == indexdb.BuilderArg {
		os.Exit(run())
	}
	testscript.Main(m, map[string]func(){
		"vitrine":   func() { os.Exit(run()) },
		"interrupt": func() { os.Exit(interrupt(os.Args[1:])) },
		"collide":   func() { os.Exit(collide(os.Args[1:])) },
	})
}

// TestScripts runs the scripts of testdata/script, each in an empty directory.
//
// They have these commands beside those of package testscript:
//
//	mkrepo dir [version]      a repository whose key costs nothing to derive
//	mkkey dir word user host  adds such a key, for the password word
//	holdlock dir [shared]     takes a lock on a repository, exclusive or shared; releaselock gives it back
//	exits code command…       the command ends with the exit code
//	lines n file              the file has n lines
//	jsonsubset a b            each message of a has its like in b: same message_type, and at
//	                          least the same fields with the same types
//	jsonhas file type k=v…    a message of that type has these fields; ? stands for any value
//	waitfor path [text]       waits until the path exists, or until the file has the text
//	flipbyte file offset      damages a file
//
// And this program, for exec and exits:
//
//	interrupt signal path command…   starts the command and sends it the signal once the path
//	                                 exists, or for path - once it has read a MiB of its input
//	collide locks target command…    takes the lock of holdlock away, starts the command and puts it back
//	                                 once the command has one, before its second look
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			for _, name := range []string{"VITRINE", "RESTIC"} {
				e.Setenv(name+"_CACHE_DIR", filepath.Join(e.WorkDir, ".cache"))
			}
			e.Setenv("VITRINE_PASSWORD", password)
			e.Setenv("RESTIC_PASSWORD", password)
			e.Setenv("VITRINE_REPOSITORY", "repo")
			e.Setenv("RESTIC_REPOSITORY", "repo")
			e.Setenv("TZ", "UTC")
			e.Defer(func() { unmountAll(t, e.WorkDir) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"mkrepo": mkrepo, "mkkey": mkkey, "holdlock": holdLock, "releaselock": releaseLock,
			"exits": exits, "lines": lines, "jsonsubset": jsonSubset, "jsonhas": jsonHas,
			"waitfor": waitFor, "flipbyte": flipByte,
		},
		RequireUniqueNames: true,
	})
}

// unmountAll removes what a failing script left mounted, and says so.
func unmountAll(t *testing.T, dir string) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			t.Errorf("%s is still mounted", f[1])
			if err := unix.Unmount(f[1], unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}
	}
}

func mkrepo(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: mkrepo dir [version]")
	}
	version := uint(2)
	if len(args) == 2 && args[1] == "1" {
		version = 1
	}
	ts.Check(makeRepository(ts.MkAbs(args[0]), version))
}

// makeRepository makes one whose key is derived in no time.
func makeRepository(dir string, version uint) error {
	be, err := wiring.CreateBackend(context.Background(), dir, wiring.StoreOptions{})
	if err != nil {
		return err
	}
	defer be.Close()
	_, err = repo.Init(context.Background(), be, repo.InitOptions{
		Version: version, Password: []byte(password), KDF: repo.KDF{N: 2, R: 1, P: 1},
	})
	return err
}

// mkkey adds a key that is derived in no time.
func mkkey(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: mkkey dir password user host")
	}
	r := openRepository(ts, args[0])
	defer r.Close()
	_, err := r.AddKey(context.Background(), repo.KeyOptions{
		Password: []byte(args[1]), Username: args[2], Hostname: args[3], KDF: repo.KDF{N: 2, R: 1, P: 1},
	})
	ts.Check(err)
}

// openRepository opens a repository in this process.
func openRepository(ts *testscript.TestScript, dir string) *repo.Repository {
	be, err := wiring.OpenBackend(context.Background(), ts.MkAbs(dir), wiring.StoreOptions{})
	ts.Check(err)
	r, err := wiring.OpenRepository(context.Background(), be, wiring.Options{Password: []byte(password), Log: slog.New(slog.DiscardHandler)})
	ts.Check(err)
	return r
}

// holdLock takes a lock in this process, so that it belongs to somebody who lives.
func holdLock(ts *testscript.TestScript, neg bool, args []string) {
	shared := len(args) == 2 && args[1] == "shared"
	if neg || len(args) != 1 && !shared {
		ts.Fatalf("usage: holdlock dir [shared]")
	}
	ctx := context.Background()
	r := openRepository(ts, args[0])
	_, l, err := lock.Acquire(ctx, r, lock.Options{Exclusive: !shared})
	ts.Check(err)
	release := sync.OnceFunc(func() {
		if err := errors.Join(l.Release(), r.Close()); err != nil {
			ts.Logf("release: %v", err)
		}
	})
	ts.Defer(release)
	releases.Store(ts, release)
}

// releases maps a script to what gives its lock back.
var releases sync.Map

func releaseLock(ts *testscript.TestScript, neg bool, args []string) {
	release, ok := releases.LoadAndDelete(ts)
	if neg || len(args) != 0 || !ok {
		ts.Fatalf("usage: releaselock, after holdlock")
	}
	release.(func())()
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code command…")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if err != nil {
		if _, scanErr := fmt.Sscanf(err.Error(), "exit status %d", &code); scanErr != nil {
			ts.Fatalf("%v", err)
		}
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

func lines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: lines n file")
	}
	content := ts.ReadFile(args[1])
	if n := strings.Count(content, "\n"); fmt.Sprint(n) != args[0] {
		ts.Fatalf("%s has %d lines, want %s:\n%s", args[1], n, args[0], content)
	}
}

func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: waitfor path [text]")
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if len(args) == 2 {
			if content, _ := os.ReadFile(ts.MkAbs(args[0])); bytes.Contains(content, []byte(args[1])) {
				return
			}
		} else if found, _ := filepath.Glob(ts.MkAbs(args[0])); len(found) > 0 {
			return
		}
	}
	ts.Fatalf("%s does not appear", strings.Join(args, " with "))
}

func flipByte(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flipbyte file offset")
	}
	found, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(found) == 0 {
		ts.Fatalf("no file %s", args[0])
	}
	content, err := os.ReadFile(found[0])
	ts.Check(err)
	var offset int
	if _, err := fmt.Sscan(args[1], &offset); err != nil || offset >= len(content) {
		ts.Fatalf("no byte %s in %d bytes", args[1], len(content))
	}
	content[offset] ^= 1
	ts.Check(os.Chmod(found[0], 0o600))
	ts.Check(os.WriteFile(found[0], content, 0o600))
}

// messages decodes a file of JSON values, one a line. The elements of a list count as messages.
func messages(ts *testscript.TestScript, name string) []map[string]any {
	var all []map[string]any
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile(name)))
	for dec.More() {
		var v any
		if err := dec.Decode(&v); err != nil {
			ts.Fatalf("%s: %v", name, err)
		}
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, v := range list {
			m, ok := v.(map[string]any)
			if !ok {
				ts.Fatalf("%s: %v is no object", name, v)
			}
			all = append(all, m)
		}
	}
	if len(all) == 0 {
		ts.Fatalf("%s has no JSON in it", name)
	}
	return all
}

// kind is what tells messages apart: message_type or, in older output, struct_type; and for
// the files of ls their type.
func kind(m map[string]any) string {
	word := m["message_type"]
	if word == nil {
		word = m["struct_type"]
	}
	if word == "node" {
		return fmt.Sprint(word, " ", m["type"])
	}
	return fmt.Sprint(word)
}

// shape maps the paths of all fields to their types.
func shape(into map[string]string, prefix string, m map[string]any) {
	for k, v := range m {
		path := prefix + k
		into[path] = fmt.Sprintf("%T", v)
		if inner, ok := v.(map[string]any); ok {
			shape(into, path+".", inner)
		}
	}
}

func shapes(all []map[string]any) map[string]map[string]string {
	out := make(map[string]map[string]string)
	for _, m := range all {
		if out[kind(m)] == nil {
			out[kind(m)] = make(map[string]string)
		}
		shape(out[kind(m)], "", m)
	}
	return out
}

func jsonSubset(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: jsonsubset a b")
	}
	want, got := shapes(messages(ts, args[0])), shapes(messages(ts, args[1]))
	var missing bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(want)) {
		for _, field := range slices.Sorted(maps.Keys(want[k])) {
			if got[k][field] != want[k][field] {
				fmt.Fprintf(&missing, "%s: field %s is %s, want %s\n", k, field, got[k][field], want[k][field])
			}
		}
	}
	if missing.Len() > 0 {
		ts.Fatalf("%s", missing.String())
	}
}

func jsonHas(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: [!] jsonhas file type field=value…")
	}
	var seen []string
	for _, m := range messages(ts, args[0]) {
		if kind(m) != args[1] {
			continue
		}
		if hasFields(m, args[2:]) {
			if neg {
				ts.Fatalf("found %v", m)
			}
			return
		}
		seen = append(seen, fmt.Sprint(m))
	}
	if !neg {
		ts.Fatalf("no message %v; there are:\n%s", args[1:], strings.Join(seen, "\n"))
	}
}

func hasFields(m map[string]any, fields []string) bool {
	return !slices.ContainsFunc(fields, func(field string) bool {
		name, want, _ := strings.Cut(field, "=")
		v, ok := m[name]
		text, isText := v.(string)
		if !isText {
			p, err := json.Marshal(v)
			if err != nil {
				return true
			}
			text = string(p)
		}
		return !ok || want != "?" && text != want
	})
}
