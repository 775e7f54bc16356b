package accept

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vitrine/scripts/internal/forge"
)

// sound is a small repository to make damaged copies of. Everything about it is known from its source and from
// restic, so that what a damage costs can be told without the program under test.
//
// It has three snapshots, tagged one, two and three, of directories of these names. Each has what the one before it has,
// and a directory more; so each has a pack of data, one of trees and an index file of its own.
type sound struct {
	*lab
	master forge.Key
	key    string // of the password
	other  string // file with the password of a second key
	stages []*stage
	packs  []*soundPack
	trees  map[string][]soundNode // by ID
}

// stage is a snapshot of the sound repository.
type stage struct {
	name     string
	dir      string // what was backed up
	snapshot string // its ID
	root     string // its tree
	listing  map[string]string
	data     *soundPack
	meta     *soundPack
}

// soundPack is a pack as restic's index has it.
type soundPack struct {
	id, index string // index is the file that lists it
	blobs     []soundBlob
}

type soundBlob struct {
	ID, Type       string
	Offset, Length int
}

func (b soundBlob) end() int { return b.Offset + b.Length }

// soundNode is what matters of an entry of a directory.
type soundNode struct {
	Name, Type, Subtree string
	Content             []string
}

// newSound makes the repository.
func newSound(t *testing.T, version int) *sound {
	t.Helper()
	s := &sound{lab: newLab(t).plain(), trees: map[string][]soundNode{}}
	s.vitrine("init", "--repository-version", fmt.Sprint(version))
	s.master = s.quicken()
	s.key = filepath.Base(s.files("keys")[0])
	s.addKey()

	random := rand.New(rand.NewPCG(6, uint64(version)))
	before := ""
	for _, name := range []string{"one", "two", "three"} {
		st := &stage{name: name, dir: s.dir + "/" + name}
		if before != "" {
			s.must("cp", "-a", before, st.dir)
		}
		if err := os.MkdirAll(st.dir+"/"+name+"/deep", 0o755); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"a", "b", "deep/c"} {
			content := make([]byte, 2000+random.IntN(2000))
			for i := range content {
				content[i] = byte(random.Uint32())
			}
			write(t, st.dir+"/"+name+"/"+file, string(content))
		}
		known := s.files("index")
		s.in(st.dir, s.vitrineCommand(), "backup", "--tag", name, ".")
		st.listing = listing(t, st.dir)
		for _, file := range s.files("index") {
			if !slices.Contains(known, file) {
				s.readIndex(st, filepath.Base(file))
			}
		}
		s.stages = append(s.stages, st)
		before = st.dir
	}
	var snapshots []struct {
		ID, Tree string
		Tags     []string
	}
	if err := json.Unmarshal([]byte(s.restic("snapshots", "--json")), &snapshots); err != nil {
		t.Fatal(err)
	}
	for _, st := range s.stages {
		for _, sn := range snapshots {
			if sn.Tags[0] == st.name {
				st.snapshot, st.root = sn.ID, sn.Tree
			}
		}
		s.readTree(st.root)
	}
	// 256 directories take most of the time of a copy, and are made again when they are needed.
	dirs, err := filepath.Glob(s.repo + "/data/*")
	for _, dir := range dirs {
		os.Remove(dir) // what is not empty stays
	}
	if err != nil || len(s.packs) != 6 {
		t.Fatalf("%d packs, want 6; %v", len(s.packs), err)
	}
	s.restic("check", "--read-data")
	return s
}

// addKey adds a key that opens as quickly as the first.
func (s *sound) addKey() {
	s.t.Helper()
	const password = "another"
	s.other = s.dir + "/other-password"
	write(s.t, s.other, password+"\n")
	apart := s.dir + "/apart"
	if err := os.MkdirAll(apart+"/keys", 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := forge.QuickKey(apart, s.master, []byte(password)); err != nil {
		s.t.Fatal(err)
	}
	s.must("cp", "-a", apart+"/keys", s.repo)
}

func (s *sound) readIndex(st *stage, name string) {
	s.t.Helper()
	var index struct {
		Packs []struct {
			ID    string
			Blobs []soundBlob
		}
	}
	if err := json.Unmarshal([]byte(s.restic("cat", "index", name)), &index); err != nil {
		s.t.Fatal(err)
	}
	for _, p := range index.Packs {
		slices.SortFunc(p.Blobs, func(a, b soundBlob) int { return a.Offset - b.Offset })
		pack := &soundPack{p.ID, name, p.Blobs}
		s.packs = append(s.packs, pack)
		if p.Blobs[0].Type == "tree" {
			st.meta = pack
		} else {
			st.data = pack
		}
	}
}

func (s *sound) readTree(id string) {
	s.t.Helper()
	if _, known := s.trees[id]; known {
		return
	}
	var tree struct{ Nodes []soundNode }
	if err := json.Unmarshal([]byte(s.restic("cat", "blob", id)), &tree); err != nil {
		s.t.Fatal(err)
	}
	s.trees[id] = tree.Nodes
	for _, n := range tree.Nodes {
		if n.Subtree != "" {
			s.readTree(n.Subtree)
		}
	}
}

// treeAt returns the ID of a directory of a stage.
func (s *sound) treeAt(st *stage, path string) string {
	id := st.root
	for _, name := range strings.Split(path, "/") {
		for _, n := range s.trees[id] {
			if n.Name == name {
				id = n.Subtree
			}
		}
	}
	return id
}

// lostBlobs are the IDs of blobs of which no copy is left.
type lostBlobs map[string]bool

// lose makes a set of blobs of a pack, those that fn chooses.
func (p *soundPack) lose(fn func(b soundBlob) bool) lostBlobs {
	lost := lostBlobs{}
	for _, b := range p.blobs {
		if fn(b) {
			lost[b.ID] = true
		}
	}
	return lost
}

func all(soundBlob) bool { return true }

// named returns the paths that a check has to name when these blobs are lost: files, and directories without those
// below them.
func (s *sound) named(lost lostBlobs) map[string]bool {
	paths := map[string]bool{}
	var walk func(id, path string)
	walk = func(id, path string) {
		if lost[id] {
			paths[cmp.Or(path, "/")] = true
			return
		}
		for _, n := range s.trees[id] {
			if n.Type == "dir" {
				walk(n.Subtree, path+"/"+n.Name)
			}
			for _, chunk := range n.Content {
				if lost[chunk] {
					paths[path+"/"+n.Name] = true
				}
			}
		}
	}
	for _, st := range s.stages {
		walk(st.root, "")
	}
	return paths
}

// left returns what a restore has to give of a stage: directories that are lost are empty, and so are the files that are.
func (s *sound) left(st *stage, lost lostBlobs) map[string]string {
	left := map[string]string{}
	var walk func(id, path string)
	walk = func(id, path string) {
		if lost[id] {
			return
		}
		for _, n := range s.trees[id] {
			name := path + "/" + n.Name
			left[name] = st.listing[name]
			if n.Type == "dir" {
				walk(n.Subtree, name)
			}
			for _, chunk := range n.Content {
				if lost[chunk] {
					kind, _, _ := strings.Cut(left[name], " content ")
					left[name] = kind + fmt.Sprintf(" content %x", sha256.Sum256(nil))
				}
			}
		}
	}
	walk(st.root, "")
	return left
}

// listing returns what is below a directory: type, mode, time and content of each path.
func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := fmt.Sprint(info.Mode(), " ", info.ModTime().UTC().Format(time.RFC3339Nano))
		if d.Type().IsRegular() {
			content, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" content %x", sha256.Sum256(content))
		}
		found[strings.TrimPrefix(p, dir)] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// copyTo returns a lab with a copy of the repository.
func (s *sound) copyTo(t *testing.T) *lab {
	t.Helper()
	l := newLab(t).plain()
	l.password = s.password
	l.must("cp", "-a", s.repo, l.repo)
	return l
}

// pack is the path of a pack in the lab's repository.
func (l *lab) pack(p *soundPack) string { return l.repo + "/data/" + p.id[:2] + "/" + p.id }

// spoil replaces a file of the repository by what fn makes of its content; nil removes it.
func (l *lab) spoil(path string, fn func([]byte) []byte) {
	l.t.Helper()
	content, err := os.ReadFile(path)
	if err == nil {
		err = os.Remove(path)
	}
	if content = fn(content); err == nil && content != nil {
		err = os.WriteFile(path, content, 0o400)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// atOnce is how many tests of eachOf run at a time.
const atOnce = 24

// eachOf runs a test of each name, many at a time: most of their time goes by in the waits of the lock protocol, so
// that the two of t.Parallel on a small machine would leave it idle.
func eachOf(t *testing.T, names []string, run func(t *testing.T, name string)) {
	todo := make(chan string)
	done := make(chan struct{})
	for range atOnce {
		go func() {
			defer func() { done <- struct{}{} }()
			for name := range todo {
				t.Run(name, func(t *testing.T) { run(t, name) })
			}
		}()
	}
	for _, name := range names {
		todo <- name
	}
	close(todo)
	for range atOnce {
		<-done
	}
}

// Ways of a file to be damaged.
func missing([]byte) []byte   { return nil }
func empty([]byte) []byte     { return []byte{} }
func half(p []byte) []byte    { return p[:len(p)/2] }
func shorter(p []byte) []byte { return p[:len(p)-1] }
func zeros(p []byte) []byte   { return make([]byte, len(p)) }

// bitAt returns what flips a bit, of the end for a negative offset.
func bitAt(offset int) func([]byte) []byte {
	return func(p []byte) []byte {
		if offset < 0 {
			return flip(p, len(p)+offset)
		}
		return flip(p, offset)
	}
}
