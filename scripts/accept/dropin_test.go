package accept

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"vitrine/scripts/internal/compat"
)

// A dropCase is a command line that both programs run, each on its own copy of the same repository.
type dropCase struct {
	args   string   // words; see words for what is put into them
	env    []string // of both programs
	stdin  string   //
	how    manner   // of what is on standard output; the zero value: as the command's entry in usually says
	varies string   // a regular expression for differences by chance
	writes bool     // the repository may be another one afterwards: restic checks it, and compares its snapshots
	out    bool     // what the program wrote below %OUT is compared too
	empty  int      // there is an empty repository of this version at %P/new, too
	locked bool     // another program holds an exclusive lock
	dead   bool     // the lock of a process that is no more lies there
}

// dropLab is the repository that is copied, and what belongs to it.
type dropLab struct {
	*lab
	names map[string]string // what stands for %NAME in command lines
	known map[string]bool   // the IDs in the repository
	lock  []byte            // a sealed exclusive lock of this process
	stale []byte            // one of a process that is no more

	mu   sync.Mutex
	used map[string]bool // rules that were needed, by ID and pattern
}

// TestDropIn runs the command lines of dropCases through restic and through vitrine. Exit codes, output, what is
// written and the repository are the same but for the differences that rules names.
func TestDropIn(t *testing.T) {
	// To see whether the process of a lock is alive, restic sends it SIGHUP, and ours is alive.
	signal.Ignore(syscall.SIGHUP)
	t.Cleanup(func() { signal.Reset(syscall.SIGHUP) })
	l := newDropLab(t)
	all := slices.Concat(dropCases, moreDropCases)
	if len(all) < 100 {
		t.Errorf("%d command lines are fewer than 100", len(all))
	}
	t.Run("lines", func(t *testing.T) {
		// More at a time than processors: restic waits 200 ms for each lock.
		var next atomic.Int32
		var workers sync.WaitGroup
		for range 4 * runtime.GOMAXPROCS(0) {
			workers.Go(func() {
				for i := int(next.Add(1)) - 1; i < len(all); i = int(next.Add(1)) - 1 {
					t.Run(fmt.Sprintf("%03d %s", i, all[i].args), func(t *testing.T) { l.compare(t, i, all[i]) })
				}
			})
		}
		workers.Wait()
	})
	for _, r := range rules {
		if !slices.ContainsFunc(compat.Differences, func(d compat.Difference) bool { return d.ID == r.id }) {
			t.Errorf("rule %q has no explanation in scripts/internal/compat", r.id)
		}
		if !t.Failed() && !l.used[r.key()] {
			t.Errorf("rule %q for %q allows %q, which does not happen: remove it", r.id, r.line, r.pattern)
		}
	}
}

func newDropLab(t *testing.T) *dropLab {
	l := &dropLab{lab: newLab(t).plain(), names: map[string]string{}, known: map[string]bool{}, used: map[string]bool{}}
	source := l.dir + "/source"
	l.must("bash", "-euo", "pipefail", "-c", dropSource, "source", source)
	l.restic("init")
	master := l.quicken()
	at := func(time, host string, args ...string) {
		l.in(l.dir, l.resticCommand(), append([]string{"backup", "--quiet", "--time", time + " 10:00:00", "--host", host}, args...)...)
	}
	at("2024-01-01", "alpha", "--tag", "one", "source")
	l.must("bash", "-euo", "pipefail", "-c", dropChange, "change", source)
	at("2024-01-02", "alpha", "--tag", "two,x", "source")
	at("2024-02-01", "beta", "source/docs")
	at("2024-02-02", "beta", "--tag", "one", "source/docs")
	at("2024-02-03", "alpha", "--exclude", "*.o", "source")
	at("2024-02-04", "gamma", "gone")
	l.name()
	l.restic("forget", "--quiet", l.names["S6"])
	if err := os.RemoveAll(l.dir + "/gone"); err != nil {
		t.Fatal(err)
	}
	for _, version := range versions {
		empty := *l.lab
		empty.repo = fmt.Sprintf("%s/empty%d", l.dir, version)
		empty.restic("init", "--repository-version", strconv.Itoa(version))
		empty.quicken()
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	lock := `{"time":%q,"exclusive":true,"hostname":%q,"username":"test","pid":%d}`
	l.lock = l.seal(master, fmt.Sprintf(lock, time.Now().Format(time.RFC3339Nano), host, os.Getpid()))
	l.stale = l.seal(master, fmt.Sprintf(lock, time.Now().Add(-time.Hour).Format(time.RFC3339Nano), host, 1<<22+1))
	write(t, l.dir+"/wrong", "incorrect mule\n")
	write(t, l.dir+"/second", "staple\n")
	write(t, l.dir+"/other-host", "beta")
	for name, content := range dropFiles {
		write(t, l.dir+"/"+name, content)
	}
	return l
}

// name gives names to the snapshots and to one object of each kind.
func (l *dropLab) name() {
	l.t.Helper()
	list := func(args ...string) []string {
		ids := regexp.MustCompile(`[0-9a-f]{64}`).FindAllString(l.restic(args...), -1)
		slices.Sort(ids)
		for _, id := range ids {
			l.known[id], l.known[id[:8]], l.known[id[:10]] = true, true, true
		}
		return ids
	}
	list("list", "snapshots")
	for i, id := range regexp.MustCompile(`"id":"([0-9a-f]{64})"`).FindAllStringSubmatch(l.restic("snapshots", "--json"), -1) {
		l.names[fmt.Sprintf("S%d", i+1)] = id[1]
	}
	for _, tree := range regexp.MustCompile(`"tree":"([0-9a-f]{64})"`).FindAllStringSubmatch(l.restic("snapshots", "--json"), -1) {
		l.names["TREE"] = cmp.Or(l.names["TREE"], tree[1])
	}
	first := func(name string, ids []string) { l.names[name] = ids[0] }
	first("BLOB", regexp.MustCompile(`[0-9a-f]{64}`).FindAllString(l.restic("find", "--json", "main.go"), -1))
	list("list", "blobs")
	first("INDEX", list("list", "index"))
	first("KEY", list("list", "keys"))
	first("PACK", list("list", "packs"))
	var content string
	for _, m := range regexp.MustCompile(`"content":\["([0-9a-f]{64})"`).FindAllStringSubmatch(l.restic("cat", "blob", l.subtree("code")), -1) {
		content = cmp.Or(content, m[1])
	}
	l.names["BLOB"] = content
	l.names["REPOID"] = regexp.MustCompile(`[0-9a-f]{64}`).FindString(l.restic("cat", "config"))
	l.known[l.names["REPOID"]] = true
}

// subtree is the tree of a directory of the source in the first snapshot.
func (l *dropLab) subtree(name string) string {
	l.t.Helper()
	id := l.names["TREE"]
	for _, step := range []string{"source", name} {
		tree := l.restic("cat", "blob", id)
		m := regexp.MustCompile(`"name":"` + step + `".*?"subtree":"([0-9a-f]{64})"`).FindStringSubmatch(tree)
		if m == nil {
			l.t.Fatalf("no %s in %s", step, tree)
		}
		id = m[1]
	}
	return id
}

// side is one program at work on a case.
type side struct {
	*lab
	name    string
	private string // everything of this program in this case is below
	out     string
	result  result
	files   []string // of the repository, afterwards
	began   time.Time
}

// words makes words of a command line. %NAME stands for what names holds, %NAME:8 for its beginning, %REPO, %OUT and
// %P for the repository of the program, a directory it may write to and the one above both; ␣ is a space.
func (l *dropLab) words(s *side, line string) []string {
	var words []string
	for _, word := range strings.Fields(line) {
		words = append(words, regexp.MustCompile(`%([A-Z0-9]+)(:\d+)?|␣`).ReplaceAllStringFunc(word, func(m string) string {
			switch m {
			case "␣":
				return " "
			case "%REPO":
				return s.repo
			case "%OUT":
				return s.out
			case "%P":
				return s.private
			case "%DIR":
				return l.dir
			}
			name, length, _ := strings.Cut(strings.TrimPrefix(m, "%"), ":")
			id, ok := l.names[name]
			if !ok {
				s.t.Fatalf("%s: what is %s?", line, m)
			}
			if length != "" {
				var n int
				fmt.Sscan(length, &n)
				id = id[:n]
			}
			return id
		}))
	}
	return words
}

// start copies the repository for one program and runs it.
func (l *dropLab) start(t *testing.T, name string, i int, c dropCase) *side {
	t.Helper()
	private := fmt.Sprintf("%s/case/%d/%s", l.dir, i, name)
	s := &side{name: name, private: private, out: private + "/out"}
	s.lab = &lab{t: t, program: l.program, dir: private, repo: private + "/repo", password: l.password, cache: private + "/cache"}
	if err := os.MkdirAll(private+"/tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	link(t, l.repo, s.repo)
	if c.empty > 0 {
		link(t, fmt.Sprintf("%s/empty%d", l.dir, c.empty), private+"/new")
	}
	for name, lock := range map[string][]byte{"a": l.lock, "b": l.stale} {
		if c.locked && name == "a" || c.dead && name == "b" {
			at := *s.lab
			at.store("locks", lock)
		}
	}
	before := s.list()
	command := s.vitrineCommand()
	if name == "restic" {
		command = s.resticCommand()
	}
	command = append(command, l.words(s, c.args)...)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = l.dir
	cmd.Env = append(os.Environ(), c.env...)
	if c.stdin != "" {
		cmd.Stdin = strings.NewReader(c.stdin)
	}
	s.began = time.Now().Truncate(time.Second)
	s.result = s.try(cmd)
	s.files = s.list()
	if !c.writes && !slices.Equal(before, s.files) {
		t.Errorf("%s has changed the repository:\nbefore %v\nafter  %v", name, before, s.files)
	}
	return s
}

// list names the files of the repository, without locks.
func (s *side) list() []string {
	var all []string
	err := filepath.WalkDir(s.repo, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && filepath.Base(filepath.Dir(p)) != "locks" {
			all = append(all, strings.TrimPrefix(p, s.repo))
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

// link copies a repository by hard links: no program changes a file in its place.
func link(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := to + strings.TrimPrefix(p, from)
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		return os.Link(p, target)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// compare runs one case.
func (l *dropLab) compare(t *testing.T, i int, c dropCase) {
	restic, vitrine := l.start(t, "restic", i, c), l.start(t, "vitrine", i, c)
	var found []string
	if a, b := restic.result.code, vitrine.result.code; a != b {
		found = append(found, fmt.Sprintf("exit code: restic %d, vitrine %d", a, b))
	}
	n := normaliser{known: l.known, dir: l.dir}
	found = append(found, n.output(c, restic, vitrine)...)
	if c.out {
		a, b := n.tree(t, restic.out), n.tree(t, vitrine.out)
		found = append(found, diffLines("written", a, b)...)
	}
	if c.writes {
		found = append(found, l.afterwards(n, restic, vitrine)...)
	}
	unexplained := slices.DeleteFunc(found, func(d string) bool {
		return l.allowed(c.args, d) || c.varies != "" && regexp.MustCompile(c.varies).MatchString(d)
	})
	if len(unexplained) > 0 {
		t.Errorf("%s\n\t%s\n%v\n%v", c.args, strings.Join(unexplained, "\n\t"), restic.result, vitrine.result)
	}
	if !t.Failed() {
		if err := os.RemoveAll(filepath.Dir(restic.private)); err != nil {
			t.Error(err)
		}
	}
}

// afterwards lets restic check what vitrine made of the repository, and compares the snapshots of both.
func (l *dropLab) afterwards(n normaliser, restic, vitrine *side) []string {
	repo := func(s *side) *lab {
		at := *s.lab
		if _, err := os.Stat(s.private + "/new/config"); err == nil {
			at.repo = s.private + "/new"
		}
		if _, err := os.Stat(s.private + "/new-password"); err == nil {
			at.password = s.private + "/new-password"
		}
		return &at
	}
	list := func(s *side) string { return repo(s).restic("snapshots", "--json", "--no-lock") }
	repo(vitrine).restic("check", "--no-lock")
	return n.json("snapshots", list(restic), list(vitrine), restic, vitrine)
}

// rule allows a difference.
type rule struct {
	id      string // of compat.Differences
	line    string // a regular expression that matches the command lines it is for
	pattern string // one that matches the line that tells of the difference
}

func (r rule) key() string { return r.id + "\x00" + r.line + "\x00" + r.pattern }

// allowed reports whether a rule allows the difference.
func (l *dropLab) allowed(line, difference string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range rules {
		if regexp.MustCompile(r.line).MatchString(line) && regexp.MustCompile(r.pattern).MatchString(difference) {
			l.used[r.key()] = true
			return true
		}
	}
	return false
}
