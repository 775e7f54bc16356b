package accept

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// harm is a damage of the matrix, and what has to be said and saved.
type harm struct {
	do     func(l *lab)
	says   []string // what the first check says of it, in its errors
	deep   bool     // only --read-data finds it
	either bool     // without --read-data it is found if the damaged one of two copies is the first to be read, and that is by chance

	missed lostBlobs // of which the first check finds no copy
	lost   lostBlobs // of which none is left after the repair
	gone   []*stage  // whose snapshots are gone then, and are in a recovered one
	hinted string    // no error, and this hint
	pruned bool      // a prune has to take away what is left over
}

// many are damages that the short form leaves out, since they hit the same place as others.
var many = regexp.MustCompile(`^(trees pack|index one|orphans (half|flipped)|doubled, .* (half|missing)$)|(snapshot|index .*) (half|short|last|zeros)$|header (length|seal)|blob (first|last)|cut between|cut in the header|data pack short`)

// TestRepairMatrix damages a file of each kind in each way. The check has to name what is damaged and every path that
// it costs, and no other. Then what the check advises is done, until it finds nothing more; restic has to agree,
// and all that is not lost has to be restored as it was.
func TestRepairMatrix(t *testing.T) {
	for _, version := range versions {
		if version == 1 && !long {
			continue
		}
		t.Run(fmt.Sprint("v", version), func(t *testing.T) {
			s := newSound(t, version)
			matrix := s.harms()
			maps.DeleteFunc(matrix, func(name string, _ harm) bool { return !long && many.MatchString(name) })
			eachOf(t, slices.Sorted(maps.Keys(matrix)), func(t *testing.T, name string) {
				h := matrix[name]
				l := s.copyTo(t)
				h.do(l)
				s.noticed(l, h)
				if h.hinted == "" {
					l.follow(s)
				}
				if h.pruned {
					l.vitrine("prune")
				}
				s.repaired(l, h)
			})
		})
	}
}

// harms is the matrix.
func (s *sound) harms() map[string]harm {
	matrix := map[string]harm{}
	one, two, three := s.stages[0], s.stages[1], s.stages[2]
	file := func(dir, name string) func(l *lab) string {
		return func(l *lab) string { return filepath.Join(l.repo, dir, name) }
	}
	pack := func(p *soundPack) func(l *lab) string { return func(l *lab) string { return l.pack(p) } }
	// add enters each of the ways.
	add := func(kind string, path func(l *lab) string, h harm, ways map[string]func([]byte) []byte) {
		for way, fn := range ways {
			h.do = func(l *lab) { l.spoil(path(l), fn) }
			matrix[kind+" "+way] = h
		}
	}
	ways := map[string]func([]byte) []byte{"flipped": bitAt(40), "empty": empty, "half": half, "short": shorter, "last": bitAt(-1), "zeros": zeros}

	add("snapshot", file("snapshots", two.snapshot), harm{says: []string{"snapshot/" + two.snapshot[:8], "corrupt"}, gone: []*stage{two}}, ways)
	for _, st := range []*stage{one, three} {
		missed := lostBlobs{}
		for _, p := range []*soundPack{st.data, st.meta} {
			maps.Copy(missed, p.lose(all))
		}
		add("index "+st.name, file("index", st.data.index), harm{says: []string{"index/" + st.data.index[:8], "corrupt"}, missed: missed}, ways)
		add("index "+st.name, file("index", st.data.index), harm{missed: missed}, map[string]func([]byte) []byte{"missing": missing})
	}

	for name, p := range map[string]*soundPack{"data": two.data, "trees": two.meta, "last trees": three.meta} {
		says := []string{p.id[:8]}
		last := p.blobs[len(p.blobs)-1].end()
		blob := p.blobs[len(p.blobs)/2]
		within := p.lose(func(b soundBlob) bool { return b.ID == blob.ID })
		h := harm{says: says}
		// The header and its length.
		add(name+" pack", pack(p), harm{says: says}, map[string]func([]byte) []byte{"short": shorter, "grown": func(c []byte) []byte { return append(c, 7) }})
		h.deep = true
		add(name+" pack header", pack(p), h, map[string]func([]byte) []byte{"flipped": bitAt(last + 20), "length": bitAt(-1), "seal": bitAt(-5)})
		h.deep = h.deep && name == "data"
		h.missed, h.lost = p.lose(all), p.lose(all)
		add(name+" pack", pack(p), h, map[string]func([]byte) []byte{"zeros": zeros})
		h.missed, h.lost = within, within
		h.deep = blob.Type == "data"
		add(name+" pack blob", pack(p), h, map[string]func([]byte) []byte{"first": bitAt(blob.Offset), "flipped": bitAt(blob.Offset + 20), "last": bitAt(blob.end() - 1)})
		h.deep = false
		for way, left := range map[string]int{"missing": -1, "empty": 0, "cut in the header": last + 3, "cut in a blob": blob.end() - 1, "cut between": blob.Offset} {
			h.lost = p.lose(func(b soundBlob) bool { return b.end() > left })
			h.missed = h.lost
			h.do = func(l *lab) {
				l.spoil(l.pack(p), func(c []byte) []byte {
					if left < 0 {
						return nil
					}
					return c[:left]
				})
			}
			matrix[name+" pack "+way] = h
		}
	}
	root := three.meta.lose(func(b soundBlob) bool { return b.ID == three.root })
	for _, b := range three.meta.blobs {
		if b.ID == three.root {
			add("root tree", pack(three.meta), harm{says: []string{three.meta.id[:8]}, missed: root, lost: root}, map[string]func([]byte) []byte{"flipped": bitAt(b.Offset)})
		}
	}
	for name, h := range matrix {
		if h.lost[three.root] { // and what only it has is found below it
			h.gone = append(h.gone, three)
		}
		if h.lost[two.root] {
			h.gone = append(h.gone, two)
		}
		matrix[name] = h
	}
	s.addOthers(matrix)
	return matrix
}

// addOthers enters what is not the damage of one file.
func (s *sound) addOthers(matrix map[string]harm) {
	one, two, three := s.stages[0], s.stages[1], s.stages[2]
	everything := lostBlobs{}
	for _, p := range s.packs {
		maps.Copy(everything, p.lose(all))
	}
	matrix["no index"] = harm{missed: everything, do: func(l *lab) {
		for _, f := range l.files("index") {
			l.spoil(f, missing)
		}
	}}
	matrix["index and pack"] = harm{says: []string{"index/" + one.data.index[:8]}, missed: everything, lost: two.data.lose(all),
		do: func(l *lab) {
			l.spoil(l.repo+"/index/"+one.data.index, bitAt(50))
			l.spoil(l.repo+"/index/"+two.data.index, missing)
			l.spoil(l.repo+"/index/"+three.data.index, missing)
			l.spoil(l.pack(two.data), missing)
		}}

	// double stores all blobs of the first snapshot once more.
	double := func(l *lab) {
		index := map[string][]byte{}
		for _, f := range l.files("index") {
			content, err := os.ReadFile(f)
			if err != nil {
				l.t.Fatal(err)
			}
			index[f] = content
			l.spoil(f, missing)
		}
		l.in(one.dir, l.vitrineCommand(), "backup", "--force", "--tag", "again", ".")
		for f, content := range index {
			write(l.t, f, string(content))
		}
	}
	matrix["doubled"] = harm{do: double, hinted: "no errors were found", pruned: true}
	damaged := func(p *soundPack, fn func([]byte) []byte) func(l *lab) {
		return func(l *lab) {
			double(l)
			l.spoil(l.pack(p), fn)
		}
	}
	for name, p := range map[string]*soundPack{"data": one.data, "trees": one.meta} {
		h := harm{says: []string{"pack/" + p.id[:8]}, pruned: true}
		for way, fn := range map[string]func([]byte) []byte{"missing": missing, "half": half, "empty": empty} {
			h.do = damaged(p, fn)
			matrix["doubled, "+name+" pack "+way] = h
		}
		h.do = damaged(p, bitAt(p.blobs[1].Offset+20))
		h.deep, h.either = name == "data", name == "trees" // the other copy serves, if it is the first to be read
		matrix["doubled, "+name+" pack flipped"] = h
	}

	// orphan leaves two packs that no index file lists.
	orphan := func(l *lab) []string {
		files := append(l.files("index"), l.files("snapshots")...)
		packs := l.files("data")
		write(l.t, l.dir+"/new", fmt.Sprint("new in ", l.dir))
		l.vitrine("backup", "new")
		for _, f := range append(l.files("index"), l.files("snapshots")...) {
			if !slices.Contains(files, f) {
				l.spoil(f, missing)
			}
		}
		return slices.DeleteFunc(l.files("data"), func(f string) bool { return slices.Contains(packs, f) })
	}
	for way, fn := range map[string]func([]byte) []byte{"sound": func(p []byte) []byte { return p }, "flipped": bitAt(-1), "empty": empty, "half": half} {
		matrix["orphans "+way] = harm{hinted: "in no index: 2 packs", pruned: true, do: func(l *lab) {
			for _, f := range orphan(l) {
				l.spoil(f, fn)
			}
		}}
	}
}

// noticed runs the first check, without --read-data and with it.
func (s *sound) noticed(l *lab, h harm) {
	l.t.Helper()
	for _, args := range [][]string{{"check"}, {"check", "--read-data"}} {
		r := l.tryVitrine(args...)
		if h.hinted != "" {
			if r.code != 0 || strings.Contains(r.stderr, "error:") || !strings.Contains(r.stdout, h.hinted) {
				l.t.Errorf("want exit code 0 and %q:\n%v", h.hinted, r)
			}
			continue
		}
		if h.deep && len(args) == 1 {
			if r.code != 0 || strings.Contains(r.stderr, "error:") {
				l.t.Errorf("without reading the data nothing is to be seen:\n%v", r)
			}
			continue
		}
		if h.either && len(args) == 1 && r.code == 0 && !strings.Contains(r.stderr, "error:") {
			continue
		}
		if r.code != 1 {
			l.t.Errorf("exit code %d, want 1:\n%v", r.code, r)
		}
		named, errs := paths(r)
		if diff := cmp.Diff(s.named(h.missed), named); diff != "" {
			l.t.Errorf("paths that are lost: -want +named\n%s\n%v", diff, r)
		}
		for _, word := range h.says {
			if !strings.Contains(errs, word) {
				l.t.Errorf("no error says %q:\n%v", word, r)
			}
		}
	}
}

var pathError = regexp.MustCompile(`(?m)^error: snapshot [0-9a-f]{8}: (/[^:]*): `)

// paths returns what the errors of a check name, and the errors. A copy of a directory that is damaged is no path that is lost.
func paths(r result) (map[string]bool, string) {
	named := map[string]bool{}
	for line := range strings.Lines(r.stderr) {
		if m := pathError.FindStringSubmatch(line); m != nil && strings.Contains(line, "lost") {
			named[m[1]] = true
		}
	}
	return named, r.stderr
}

var advice = regexp.MustCompile("`vitrine ([^`]+)`|(?m)^  vitrine (.+)$")

// advised returns the commands that the output of a check advises, up to the place where it says to check again.
func advised(r result) [][]string {
	var list [][]string
	out, _, _ := strings.Cut(r.stdout, "then check again")
	for _, text := range []string{out, r.stderr} {
		for _, m := range advice.FindAllStringSubmatch(text, -1) {
			args := strings.Fields(m[1] + m[2])
			told := slices.ContainsFunc(list, func(other []string) bool { return slices.Equal(other, args) })
			if !told && !slices.Equal(args, []string{"repair", "packs"}) { // which is said in full elsewhere
				list = append(list, args)
			}
		}
	}
	return list
}

// follow does what the check advises until it finds nothing more.
func (l *lab) follow(s *sound) {
	l.t.Helper()
	for range 5 {
		r := l.tryVitrine("check", "--read-data")
		if r.code == 0 {
			return
		}
		commands := advised(r)
		if len(commands) == 0 {
			l.t.Fatalf("no advice:\n%v", r)
		}
		for _, args := range commands {
			if slices.Equal(args, []string{"key", "add"}) {
				args = append(args, "--new-password-file", s.other)
			}
			l.vitrine(args...)
		}
	}
	l.t.Fatalf("the advice does not help:\n%v", l.tryVitrine("check", "--read-data"))
}

// repaired asks both programs whether all is well, and restores everything.
func (s *sound) repaired(l *lab, h harm) {
	l.t.Helper()
	r := l.tryVitrine("check", "--read-data")
	if r.code != 0 || r.stderr != "" || h.pruned && strings.Contains(r.stdout, "in no index") {
		l.t.Errorf("after the repair:\n%v", r)
	}
	l.restic("check", "--read-data")
	for _, st := range s.stages {
		if slices.Contains(h.gone, st) {
			if out := l.vitrine("snapshots", "--tag", st.name); !strings.Contains(out, "0 snapshots") {
				l.t.Errorf("snapshot %s must be gone:\n%s", st.name, out)
			}
			continue
		}
		target := l.dir + "/restored-" + st.name
		l.vitrine("restore", "latest", "--tag", st.name, "--target", target)
		if diff := cmp.Diff(s.left(st, h.lost), listing(l.t, target)); diff != "" {
			l.t.Errorf("snapshot %s restored: -want +got\n%s", st.name, diff)
		}
	}
	for _, st := range h.gone {
		s.recovered(l, st, h.lost)
	}
}

// recovered looks for what only a snapshot that is gone had. Its root has no name in the recovered one, nor has its
// directory when the root is lost.
func (s *sound) recovered(l *lab, st *stage, lost lostBlobs) {
	l.t.Helper()
	id, below := st.root, ""
	if lost[id] {
		id, below = s.treeAt(st, st.name), "/"+st.name
	}
	if referred := st != s.stages[len(s.stages)-1] && below != ""; referred || lost[id] {
		return // the next snapshot has it, or it is lost too
	}
	target := l.dir + "/recovered-" + st.name
	l.vitrine("restore", "latest", "--tag", "recovered", "--target", target)
	want := map[string]string{}
	for path, text := range s.left(st, lostBlobs{}) {
		if name, inside := strings.CutPrefix(path, below+"/"); inside {
			want["/"+name] = text
		}
	}
	if diff := cmp.Diff(want, listing(l.t, filepath.Join(target, id[:8]))); diff != "" {
		l.t.Errorf("what is left of %s: -want +recovered\n%s", st.name, diff)
	}
}
