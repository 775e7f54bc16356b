package accept

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// flipped is a sound repository whose files are to have a wrong byte, one at a time.
//
// The short form runs every third of what reads and of what repairs after each change, in turn.
type flipped struct {
	*sound
	turn  atomic.Int64
	count atomic.Int64      // commands
	far   string            // repository to copy to and from
	reads [][]string        // commands whose output does not depend on time and place
	want  map[string]string // what they say when all is well
	lock  []byte            // of a client that is gone
	ran   sync.Map          // the commands, by their words
}

// TestFlippedBytes gives one byte of one file after the other another value, and runs every command. None of them panics,
// hangs, or ends with a code that is not documented; what succeeds without a warning says what it says of the sound
// repository; and what writes takes nothing away that was good: with the byte put right, all snapshots are whole.
func TestFlippedBytes(t *testing.T) {
	seed := uint64(1)
	if long {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	for _, version := range versions {
		t.Run(fmt.Sprint("v", version), func(t *testing.T) {
			f := newFlipped(t, version)
			random := rand.New(rand.NewPCG(seed, uint64(version)))
			var names []string
			places := map[string]flipPlace{}
			paths := append(f.files("."), "lock")
			for _, path := range paths {
				sizeBytes := len(f.lock)
				if path != "lock" {
					sizeBytes = int(fileSize(t, path))
					path = strings.TrimPrefix(path, f.repo+"/")
				}
				for _, offset := range offsets(sizeBytes, version, random) {
					p := flipPlace{path, offset, byte(1 + random.IntN(255))}
					name := fmt.Sprintf("%.16s at %d of %d by %#x", strings.ReplaceAll(path, "/", " "), p.offset, sizeBytes, p.mask)
					names = append(names, name)
					places[name] = p
				}
			}
			eachOf(t, names, func(t *testing.T, name string) { f.flip(t, places[name]) })
			t.Logf("%d flips, %d commands", len(names), f.count.Load())
			f.wantAllRan()
		})
	}
}

// flipPlace is a byte that changes.
type flipPlace struct {
	path   string // in the repository; "lock" for a lock file
	offset int
	mask   byte
}

// offsets returns bytes to change: the first, the last, the lowest and the highest of what is the length of the header in a
// pack, and some by chance. The short form takes few of these.
func offsets(sizeBytes, version int, random *rand.Rand) []int {
	marked := []int{0, sizeBytes - 1, sizeBytes - 4, sizeBytes - 5, 16, sizeBytes - 20}
	if !long {
		return append(marked, random.IntN(sizeBytes))[random.IntN(len(marked)+1):][:1]
	}
	for range 4 {
		marked = append(marked, random.IntN(sizeBytes))
	}
	slices.Sort(marked)
	return slices.Compact(marked)
}

func newFlipped(t *testing.T, version int) *flipped {
	t.Helper()
	f := &flipped{sound: newSound(t, version), want: map[string]string{}}
	f.far = f.dir + "/far"
	f.must("cp", "-a", f.repo, f.far)
	for _, snapshot := range f.stages[1:] { // so that there is something to copy in both directions
		f.in(f.dir, []string{f.program, "--repo", f.far, "--password-file", f.password, "--cache-dir", f.cache}, "forget", snapshot.snapshot)
	}
	one, two, three := f.stages[0], f.stages[1], f.stages[2]
	f.reads = [][]string{
		{"snapshots"}, {"snapshots", "--json", "--group-by", "tags"}, {"ls", "latest"}, {"ls", "--json", one.snapshot}, {"ls", "-l", "--recursive", two.snapshot, "/two"},
		{"find", "a"}, {"find", "--json", "c"}, {"find", "--blob", one.data.blobs[0].ID}, {"find", "--tree", two.root}, {"find", "--pack", three.data.id},
		{"stats"}, {"stats", "--mode", "raw-data"}, {"stats", "--mode", "files-by-contents"}, {"stats", "--mode", "blobs-per-file", "--json"},
		{"diff", one.snapshot, three.snapshot}, {"diff", "--metadata", "--json", two.snapshot, three.snapshot},
		{"dump", three.snapshot, "/two/a"}, {"dump", "--archive", "tar", two.snapshot, "/"},
		{"cat", "config"}, {"cat", "masterkey"}, {"cat", "key", f.key}, {"cat", "snapshot", two.snapshot}, {"cat", "index", three.data.index}, {"cat", "pack", one.data.id},
		{"cat", "blob", two.data.blobs[1].ID}, {"cat", "tree", three.root},
		{"list", "keys"}, {"list", "snapshots"}, {"list", "index"}, {"list", "packs"}, {"list", "blobs"},
		{"key", "list"}, {"key", "list", "--json"}, {"features"}, {"options"}, {"version"}, {"completion", "bash"},
	}
	for _, args := range f.reads {
		f.want[strings.Join(args, " ")] = inOrder(args, f.vitrine(args...))
	}
	f.lock = f.seal(f.master, `{"time":"2020-01-01T00:00:00Z","exclusive":false,"hostname":"elsewhere","username":"test","pid":1}`)
	return f
}

// inOrder sorts what list prints in the order of a directory.
func inOrder(args []string, out string) string {
	if args[0] != "list" {
		return out
	}
	lines := strings.Split(out, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// commandWords returns the words that name the command of a command line.
func commandWords(args []string) string {
	var words []string
	for _, arg := range args {
		if strings.HasPrefix(arg, "-") || len(words) == 2 || len(words) == 1 && !slices.Contains([]string{"key", "repair"}, words[0]) {
			break
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}

// wantAllRan tells of commands of the program that were not run.
func (f *flipped) wantAllRan() {
	f.t.Helper()
	f.ran.Store("mount", true)
	for _, parent := range []string{"", "key", "repair"} {
		help := f.vitrine(strings.Fields(parent + " --help")...)
		for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+)  +[A-Z]`).FindAllStringSubmatch(help, -1) {
			command := strings.TrimSpace(parent + " " + m[1])
			if _, ok := f.ran.Load(command); !ok && !slices.Contains([]string{"help", "key", "repair"}, command) {
				f.t.Errorf("%s was not run", command)
			}
		}
	}
}

// run runs a command, for a minute at most: then it is made to say where it hangs.
func (f *flipped) run(l *lab, args ...string) result {
	l.t.Helper()
	f.count.Add(1)
	f.ran.Store(commandWords(args), true)
	command := append([]string{"timeout", "--signal=QUIT", "60"}, append(l.vitrineCommand(), args...)...)
	r := l.try(exec.Command(command[0], command[1:]...))
	if !slices.Contains([]int{0, 1, 3, 10, 11, 12}, r.code) {
		l.t.Errorf("exit code %d is in no list:\n%v", r.code, r)
	}
	if r.code != 0 && strings.TrimSpace(r.stderr) == "" {
		l.t.Errorf("it failed and said nothing:\n%v", r)
	}
	return r
}

// flip changes a byte and runs everything.
func (f *flipped) flip(t *testing.T, p flipPlace) {
	l := f.copyTo(t)
	if p.offset%2 == 0 { // a cache that was there before
		l.must("cp", "-a", f.cache, l.cache)
	}
	path := filepath.Join(l.repo, p.path)
	if p.path == "lock" {
		l.store("locks", f.lock)
		path = l.files("locks")[0]
	}
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	l.spoil(path, func([]byte) []byte {
		bad := slices.Clone(sound)
		bad[p.offset] ^= p.mask
		return bad
	})
	broken := l.dir + "/broken" // for what repairs
	l.must("cp", "-a", l.repo, broken)

	turn := int(f.turn.Add(1))
	mine := func(i int) bool { return long || (i+turn)%3 == 0 }
	f.read(l, mine)
	f.write(l, mine)
	if _, err := os.Stat(path); err == nil { // else it was a pack that is written again, or the lock
		l.spoil(path, func([]byte) []byte { return sound })
	}
	if r := f.run(l, "check", "--read-data"); r.code != 0 {
		t.Errorf("with the byte put right:\n%v", r)
	}
	f.whole(l, true)
	if !mine(1) {
		return
	}
	l.repo = broken
	for _, args := range [][]string{
		{"repair", "index"}, {"repair", "snapshots"}, {"recover"}, {"repair", "index", "--read-all-packs"}, {"repair", "packs", f.stages[0].data.id},
		{"repair", "snapshots", "--forget"}, {"unlock", "--remove-all"}, {"prune", "--unsafe-recover-no-free-space", fmt.Sprintf("did-recover-%d", p.offset)},
		{"check"},
	} {
		f.run(l, args...)
	}
}

// read runs what only reads.
func (f *flipped) read(l *lab, mine func(i int) bool) {
	l.t.Helper()
	for i, args := range f.reads {
		if !mine(i) {
			continue
		}
		r := f.run(l, args...)
		if diff := cmp.Diff(f.want[strings.Join(args, " ")], inOrder(args, r.stdout)); r.code == 0 && r.stderr == "" && diff != "" {
			l.t.Errorf("it succeeds and says what is not so: -sound +flipped\n%s\n%v", diff, r)
		}
	}
	for i, args := range [][]string{
		{"check"}, {"check", "--read-data"}, {"prune", "--dry-run"}, {"forget", "--keep-last", "1", "--dry-run", "--prune"},
		{"rewrite", "--dry-run", "--exclude", "a"}, {"repair", "snapshots", "--dry-run"}, {"list", "locks"}, {"cache"},
		{"check", "--read-data-subset", "1/2", "latest"}, {"dump", "--archive", "zip", "latest", "/"}, {"generate", "--man", l.dir},
	} {
		if mine(i) {
			f.run(l, args...)
		}
	}
	switch {
	case long:
		f.whole(l, false)
		f.walkMount(l)
	case mine(0):
		f.walkMount(l)
	case mine(1):
		f.whole(l, false)
	}
}

// write runs what writes, and repairs nothing.
func (f *flipped) write(l *lab, mine func(i int) bool) {
	l.t.Helper()
	far := l.dir + "/far"
	l.must("cp", "-a", f.far, far)
	three := f.stages[2]
	from := []string{"--from-repo", l.repo, "--from-password-file", l.password}
	into := []string{"--from-repo", far, "--from-password-file", l.password}
	for _, args := range [][]string{
		{"backup", "--tag", "new", three.dir}, {"backup", "--tag", "new", "--force", l.password}, {"tag", "--add", "x", "--tag", "new"},
		append([]string{"copy", "-r", far}, from...), append([]string{"copy"}, into...),
		{"rewrite", "--exclude", "a"}, {"migrate"}, {"unlock"},
		{"forget", "--tag", "new", "--keep-last", "1", "--group-by", ""}, {"prune", "--max-unused", "0"}, {"prune", "--repack-small", "--max-unused", "0"},
	} {
		f.run(l, args...)
	}
	if mine(2) {
		f.keys(l)
		// A new repository with the parameters of a damaged one.
		f.run(l, append([]string{"init", "-r", l.dir + "/new", "--copy-chunker-params"}, from...)...)
	}
	intact := l.repo
	l.repo = far
	if r := f.run(l, "check", "--read-data"); r.code != 0 {
		l.t.Errorf("the copy:\n%v", r)
	}
	l.repo = intact
}

// keys adds a key, changes its password, and takes another one away.
func (f *flipped) keys(l *lab) {
	l.t.Helper()
	added, changed := l.dir+"/added", l.dir+"/changed"
	write(l.t, added, "added\n")
	write(l.t, changed, "changed\n")
	if r := f.run(l, "key", "add", "--new-password-file", added); r.code == 0 {
		if r := f.run(l, "key", "passwd", "--password-file", added, "--new-password-file", changed); r.code == 0 {
			for file, code := range map[string]int{added: 12, changed: 0} {
				if r := f.run(l, "list", "keys", "--password-file", file); r.code != code {
					l.t.Errorf("with the password %s, after it was changed:\n%v", filepath.Base(file), r)
				}
			}
		}
	}
	for _, path := range f.files("keys") {
		if key := filepath.Base(path); key != f.key {
			f.run(l, "key", "remove", key)
		}
	}
}

// whole restores the snapshots: where that succeeds they are as they were, and with must it has to.
func (f *flipped) whole(l *lab, must bool) {
	l.t.Helper()
	for _, st := range f.stages {
		target, err := os.MkdirTemp(l.dir, "restored.")
		if err != nil {
			l.t.Fatal(err)
		}
		r := f.run(l, "restore", st.snapshot, "--target", target)
		if must && r.code != 0 {
			l.t.Errorf("snapshot %s is lost:\n%v", st.name, r)
		}
		if r.code != 0 {
			continue
		}
		if diff := cmp.Diff(st.listing, listing(l.t, target)); diff != "" {
			l.t.Errorf("snapshot %s restored: -want +got\n%s", st.name, diff)
		}
	}
}

// walkMount reads everything in a mount, if there is one: each file is right or an error.
func (f *flipped) walkMount(l *lab) {
	l.t.Helper()
	m := l.startMount()
	for deadline := time.Now().Add(time.Minute); !isMountPoint(m.dir); time.Sleep(20 * time.Millisecond) {
		select {
		case <-m.done:
			m.cmd = nil
			if code := strings.TrimSpace(m.log.String()); code == "" {
				l.t.Error("the mount ended and said nothing")
			}
			l.sane("mount", m.log.String())
			return
		default:
		}
		if time.Now().After(deadline) {
			l.t.Fatal("neither a mount nor its end within a minute")
		}
	}
	good := map[string]bool{}
	for _, st := range f.stages {
		for _, text := range st.listing {
			good[text[strings.LastIndex(text, " ")+1:]] = true
		}
	}
	read := 0
	err := filepath.WalkDir(m.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // a directory that cannot be read
		}
		if base := filepath.Base(p); base != "a" && base != "b" && base != "c" {
			return nil // the mount's own
		}
		content, err := os.ReadFile(p)
		if err != nil {
			return nil
		}
		read++
		if hash := fmt.Sprintf("%x", sha256.Sum256(content)); !good[hash] {
			return fmt.Errorf("%s: %d bytes that were never in it", p, len(content))
		}
		return nil
	})
	if err != nil || read == 0 {
		l.t.Errorf("%d files were read; %v; the mount said:\n%s", read, err, m.log.String())
	}
	m.stop()
}
