package accept

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDamagedAccess damages what a repository is opened with. Each command says which file it is and what helps.
func TestDamagedAccess(t *testing.T) {
	s := newSound(t, 2)
	config := func(l *lab) string { return l.repo + "/config" }
	key := func(l *lab) string { return l.repo + "/keys/" + s.key }
	ways := map[string]func([]byte) []byte{"missing": missing, "flipped": bitAt(20), "empty": empty, "half": half, "last": bitAt(-1)}
	type access struct {
		path  func(l *lab) string
		code  int // with the first password
		other int // with that of the other key, as long as nothing is repaired
		says  string
	}
	cases := map[string]access{}
	for way := range ways {
		a := access{config, 1, 1, "put the file back"}
		if way == "missing" {
			a = access{config, 10, 10, "config"}
		}
		cases["config "+way] = a
		a = access{key, 12, 1, s.key[:8]}
		if way == "missing" {
			a.other, a.says = 0, "wrong password"
		}
		cases["key "+way] = a
	}
	eachOf(t, slices.Sorted(maps.Keys(cases)), func(t *testing.T, name string) {
		c := cases[name]
		l := s.copyTo(t)
		path := c.path(l)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, way, _ := strings.Cut(name, " ")
		l.spoil(path, ways[way])
		for _, args := range [][]string{{"check"}, {"snapshots"}, {"backup", l.password}, {"prune"}, {"init"}} {
			want := c.code
			if args[0] == "init" {
				want = 1 // there is a repository
			}
			r := l.tryVitrine(args...)
			if r.code != want || args[0] != "init" && !strings.Contains(r.stderr, c.says) {
				t.Errorf("want exit code %d and %q:\n%v", want, c.says, r)
			}
		}
		sound := l.password
		l.password = s.other
		r := l.tryVitrine("check")
		if r.code != c.other || r.code > 0 && !strings.Contains(r.stderr, c.says) {
			t.Errorf("with the other key, want exit code %d and %q:\n%v", c.other, c.says, r)
		}
		if c.other == 1 && strings.HasPrefix(name, "key") {
			l.follow(s)
			s.repaired(l, harm{})
		}
		l.password = sound
		if strings.HasPrefix(name, "config") { // nothing replaces it but a copy
			os.Remove(path)
			write(t, path, string(content))
			s.repaired(l, harm{})
		}
	})
}

// TestDamagedLocks: a lock file that cannot be read may be that of a prune at work, so nobody gets a lock beside it, and
// is told how to remove it. Who needs no lock reads on. An empty one is the rest of an upload, and counts for nothing.
func TestDamagedLocks(t *testing.T) {
	s := newSound(t, 2)
	lock := s.seal(s.master, `{"time":"2020-01-01T00:00:00Z","exclusive":false,"hostname":"elsewhere","username":"test","pid":1}`)
	ways := map[string]func([]byte) []byte{"flipped": bitAt(20), "empty": empty, "half": half, "last": bitAt(-1)}
	eachOf(t, slices.Sorted(maps.Keys(ways)), func(t *testing.T, way string) {
		l := s.copyTo(t)
		l.store("locks", lock)
		file := l.files("locks")[0]
		l.spoil(file, ways[way])
		for _, args := range [][]string{{"check", "--no-lock"}, {"snapshots"}, {"stats"}, {"ls", "latest"}, {"restore", "--no-lock", "latest", "--target", l.dir + "/out"}} {
			if r := l.tryVitrine(args...); r.code != 0 {
				t.Errorf("a damaged lock is in the way:\n%v", r)
			}
		}
		for _, args := range [][]string{{"check"}, {"repair", "index"}, {"prune"}, {"backup", l.password}, {"forget", "latest"}} {
			if way == "empty" {
				break
			}
			r := l.tryVitrine(args...)
			if r.code != 11 || !strings.Contains(r.stderr, filepath.Base(file)[:8]) {
				t.Errorf("want exit code 11 and the name of the lock:\n%v", r)
			}
			if fmt.Sprint(advised(r)) != "[[unlock --remove-all]]" {
				t.Errorf("advice %q:\n%v", advised(r), r)
			}
		}
		l.vitrine("unlock", "--remove-all")
		s.repaired(l, harm{})
	})
}

// TestForeignFiles puts into each directory of a repository what does not belong there. No command takes it for a file of
// the repository, or away.
func TestForeignFiles(t *testing.T) {
	s := newSound(t, 2)
	l := s.copyTo(t)
	id := strings.Repeat("ab", 32)
	var strange []string
	put := func(path string) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, path, "foreign")
		strange = append(strange, path)
	}
	for _, dir := range []string{".", "keys", "snapshots", "index", "locks", "data", "data/ab", "data/00"} {
		dir = filepath.Join(l.repo, dir)
		for _, name := range []string{"README", ".hidden", "a b\nc", id[:63], id + "0", strings.ToUpper(id), id[:63] + "x", id + "-tmp-123", id + ".bak", "dir/" + id, "lost+found/x"} {
			put(filepath.Join(dir, name))
		}
		if err := os.MkdirAll(filepath.Join(dir, "cd"+id[2:], "inside"), 0o755); err != nil { // a directory of a proper name
			t.Fatal(err)
		}
	}
	put(l.repo + "/data/00/" + id) // in the wrong directory
	put(l.repo + "/data/" + id)
	before := l.files(".")

	l.vitrine("check", "--read-data")
	for _, kind := range []string{"snapshots", "index", "packs", "keys", "locks"} {
		if out := l.vitrine("list", kind); strings.Contains(strings.ToLower(out), id[:16]) || strings.Contains(out, "README") {
			t.Errorf("list %s has what is foreign:\n%s", kind, out)
		}
	}
	for _, args := range [][]string{
		{"repair", "index", "--read-all-packs"}, {"repair", "snapshots"}, {"backup", "--force", l.password}, {"tag", "--add", "x", "two"}, {"recover"},
		{"unlock", "--remove-all"}, {"key", "list"}, {"stats"}, {"cache"},
	} {
		if r := l.tryVitrine(args...); r.code != 0 {
			t.Errorf("%v", r)
		}
	}
	left := l.files(".")
	for _, path := range before { // but for the lists that were made anew, and the snapshots that are tagged now
		kind := strings.Split(strings.TrimPrefix(path, l.repo+"/"), "/")[0]
		if replaced := (kind == "index" || kind == "snapshots") && !slices.Contains(strange, path); !replaced && !slices.Contains(left, path) {
			t.Errorf("%s is gone", path)
		}
	}
	l.vitrine("forget", "--tag", "one", "--unsafe-allow-remove-all", "--prune", "--max-unused", "0")
	l.vitrine("check", "--read-data")
	for _, path := range strange {
		if content, err := os.ReadFile(path); err != nil || string(content) != "foreign" {
			t.Errorf("%s: %q, %v", path, content, err)
		}
	}
	for _, st := range s.stages[1:] {
		target := l.dir + "/restored-" + st.name
		l.vitrine("restore", "latest", "--tag", st.name, "--target", target)
		if diff := cmp.Diff(st.listing, listing(t, target)); diff != "" {
			t.Errorf("snapshot %s: -want +restored\n%s", st.name, diff)
		}
	}
	// restic takes names in capitals, and directories, for files of the repository, and fails.
	for _, dir := range []string{"keys", "snapshots", "index", "locks", "data/ab", "data/00"} {
		for _, name := range []string{strings.ToUpper(id), "cd" + id[2:]} {
			if err := os.RemoveAll(filepath.Join(l.repo, dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.restic("check", "--read-data")
}

// TestInTheWay puts a file where a directory of the repository belongs, and directories where files do. The error names
// it, and when it is moved away all is well again.
func TestInTheWay(t *testing.T) {
	s := newSound(t, 2)
	pack := s.stages[0].data
	places := map[string]string{"pack": "data/" + pack.id[:2] + "/" + pack.id, "config file": "config",
		"snapshot": "snapshots/" + s.stages[1].snapshot, "index file": "index/" + pack.index}
	for _, dir := range []string{"keys", "snapshots", "index", "locks", "data", "data/" + pack.id[:2]} {
		places["directory "+strings.ReplaceAll(dir, "/", " ")] = dir
	}
	eachOf(t, slices.Sorted(maps.Keys(places)), func(t *testing.T, what string) {
		l := s.copyTo(t)
		path := filepath.Join(l.repo, places[what])
		aside := l.dir + "/aside"
		if err := os.Rename(path, aside); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(what, "directory") {
			write(t, path, "")
		} else if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		r := l.tryVitrine("check", "--read-data")
		switch {
		case what == "snapshot": // as if it were missing, which nothing tells
			if r.code != 0 {
				t.Errorf("%v", r)
			}
		case what == "pack":
			if r.code != 1 || !strings.Contains(r.stderr, "pack/"+pack.id[:8]+" is missing") {
				t.Errorf("%v", r)
			}
		case what == "index file":
			if r.code != 1 || !strings.Contains(r.stderr, "is in no index") {
				t.Errorf("%v", r)
			}
		case r.code != 1 || !strings.Contains(r.stderr, path) || strings.Count(r.stderr, "\n") != 1 || what != "config file" && !strings.Contains(r.stderr, "move it away"):
			t.Errorf("want exit code 1 and one line that names %s:\n%v", path, r)
		}
		if r := l.tryVitrine("backup", l.password); r.code == 0 && !slices.Contains([]string{"pack", "snapshot", "index file"}, what) && what != "directory data "+pack.id[:2] {
			t.Errorf("a backup must not succeed:\n%v", r)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(aside, path); err != nil {
			t.Fatal(err)
		}
		s.repaired(l, harm{})
	})
}
