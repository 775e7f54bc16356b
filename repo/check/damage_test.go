package check_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/blob"
	"vitrine/repo/check"
	"vitrine/repo/snapshot"
)

type words []string

// damageTest makes one kind of damage. Each error and hint must hold all the words of one of the wanted, in order, and
// there must be no other.
type damageTest struct {
	name     string
	readData bool
	damage   func(s *sample) (errs, hints []words)
}

func TestDamagedSnapshots(t *testing.T) {
	testDamage(t, []damageTest{
		{"key renamed", false, func(s *sample) (errs, hints []words) {
			f := s.files(backend.Key)[0]
			other := backend.File{Kind: backend.Key, Name: strings.Repeat("ab", 32)}
			content, _ := s.be.ReadAll(s.t.Context(), f, 1<<20)
			if err := s.be.Save(s.t.Context(), other, content); err != nil {
				s.t.Fatal(err)
			}
			return []words{{"key/abababab", "does not match its name"}}, nil
		}},
		{"snapshot flipped", false, func(s *sample) (errs, hints []words) {
			s.change(backend.File{Kind: backend.Snapshot, Name: s.first.String()}, flipAt(40))
			return []words{{"snapshot/" + s.first.Short(), "corrupt"}}, nil
		}},
		{"snapshot cut", false, func(s *sample) (errs, hints []words) {
			s.change(backend.File{Kind: backend.Snapshot, Name: s.first.String()}, cut(1))
			return []words{{"snapshot/" + s.first.Short(), "corrupt"}}, nil
		}},
		{"snapshot empty", false, func(s *sample) (errs, hints []words) {
			s.change(backend.File{Kind: backend.Snapshot, Name: s.first.String()}, func([]byte) []byte { return []byte{} })
			return []words{{"snapshot/" + s.first.Short(), "corrupt"}}, nil
		}},
		{"snapshot without a tree", false, func(s *sample) (errs, hints []words) {
			id, err := s.r.SaveFile(s.t.Context(), backend.Snapshot, []byte(`{"time":"2001-09-09T01:46:40Z","paths":["/srv"]}`))
			if err != nil {
				s.t.Fatal(err)
			}
			return []words{{"snapshot/" + id.Short(), "no tree"}}, nil
		}},
		{"snapshot of nonsense", false, func(s *sample) (errs, hints []words) {
			id, err := s.r.SaveFile(s.t.Context(), backend.Snapshot, []byte(`{"time":7}`))
			if err != nil {
				s.t.Fatal(err)
			}
			return []words{{"snapshot/" + id.Short(), "corrupt"}}, nil
		}},
	})
}

func TestDamagedPacks(t *testing.T) {
	testDamage(t, []damageTest{
		{"pack missing", false, func(s *sample) (errs, hints []words) {
			pack := s.place(blob.Data, s.c).Pack
			s.change(packFile(pack), gone)
			return []words{{"pack/" + pack.Short(), "missing", "1 blob"},
				{"snapshot " + s.last.Short() + ": /srv/sub/c", "1 of 1 chunk", "data/" + s.c.Short(), "pack/" + pack.Short(), "missing"}}, nil
		}},
		{"pack of trees missing", false, func(s *sample) (errs, hints []words) {
			pack := s.place(blob.Tree, s.sub).Pack
			s.change(packFile(pack), gone)
			return []words{{"pack/" + pack.Short(), "missing", "3 blobs"},
				{"snapshot " + s.last.Short() + ": /: ", "directory is lost", "pack/" + pack.Short(), "missing"}}, nil
		}},
		{"pack cut", false, func(s *sample) (errs, hints []words) {
			pack := s.place(blob.Data, s.c).Pack
			s.change(packFile(pack), cut(1000))
			return []words{{"pack/" + pack.Short(), "bytes", "the index makes it"},
				{"/srv/sub/c", "data/" + s.c.Short(), "pack/" + pack.Short(), "too short"}}, nil
		}},
		{"pack longer", false, func(s *sample) (errs, hints []words) {
			pack := s.place(blob.Data, s.c).Pack
			s.change(packFile(pack), func(p []byte) []byte { return append(p, 0) })
			return []words{{"pack/" + pack.Short(), "bytes", "the index makes it"}}, nil
		}},
	})
}

func TestDamagedIndex(t *testing.T) {
	testDamage(t, []damageTest{
		{"index missing", false, func(s *sample) (errs, hints []words) {
			for _, f := range s.files(backend.Index) {
				s.change(f, gone)
			}
			return []words{
				{"snapshot " + s.first.Short() + ": /: ", "directory is lost", "is in no index"},
				{"snapshot " + s.last.Short() + ": /: ", "directory is lost", "is in no index"},
			}, []words{{"in no index", "4 packs"}}
		}},
		{"index flipped", false, func(s *sample) (errs, hints []words) {
			f := s.indexOf(s.place(blob.Data, s.c).Pack)
			s.change(f, flipAt(-20))
			return []words{{"index/" + f.Name[:8], "corrupt"}, {"snapshot " + s.last.Short(), "is in no index"}},
				[]words{{"in no index", "2 packs"}}
		}},
		{"index of nonsense", false, func(s *sample) (errs, hints []words) {
			id, err := s.r.SaveFile(s.t.Context(), backend.Index, []byte(`{"packs":[{"id":"zz"}]}`))
			if err != nil {
				s.t.Fatal(err)
			}
			return []words{{"index/" + id.Short(), "corrupt"}}, nil
		}},
		{"index lists a pack that never was", false, func(s *sample) (errs, hints []words) {
			s.index(strings.Repeat("ab", 32), s.c, 0, 3032)
			return []words{{"pack/abababab", "missing", "1 blob"}}, nil
		}},
		{"index twice", true, func(s *sample) (errs, hints []words) {
			loc := s.place(blob.Data, s.c)
			s.index(loc.Pack.String(), s.c, loc.OffsetBytes, loc.LengthBytes)
			return nil, nil
		}},
		{"index with a wrong length", true, func(s *sample) (errs, hints []words) {
			loc := s.place(blob.Data, s.c)
			s.index(loc.Pack.String(), s.c, loc.OffsetBytes, loc.LengthBytes-1)
			return []words{{"pack/" + loc.Pack.Short(), "the index makes it"},
				{"pack/" + loc.Pack.Short(), "header and the index disagree", "lacks 0 blobs", "1 blob of the index"},
				{"data/" + s.c.Short(), "corrupt"}}, nil
		}},
		{"index with a blob that is not there", true, func(s *sample) (errs, hints []words) {
			loc := s.place(blob.Data, s.c)
			s.index(loc.Pack.String(), blob.Hash(nil), 0, 100)
			return []words{{"pack/" + loc.Pack.Short(), "the index makes it"},
				{"pack/" + loc.Pack.Short(), "header and the index disagree"}, {"data/" + blob.Hash(nil).Short(), "corrupt"}}, nil
		}},
		{"orphan", false, func(s *sample) (errs, hints []words) {
			content := backendtest.Content(9, 2048)
			f := backendtest.FileOf(backend.Pack, content)
			if err := s.be.Save(s.t.Context(), f, content); err != nil {
				s.t.Fatal(err)
			}
			return nil, []words{{"in no index", "1 pack (" + f.Name[:8] + ")", "2.0 KiB", "prune"}}
		}},
	})
}

func TestDamagedContent(t *testing.T) {
	testDamage(t, []damageTest{
		{"tree flipped", false, func(s *sample) (errs, hints []words) {
			loc := s.place(blob.Tree, s.sub)
			s.change(packFile(loc.Pack), flipAt(int(loc.OffsetBytes)+20))
			return []words{{"snapshot " + s.last.Short() + ": /srv/sub: ", "damaged", "tree/" + s.sub.Short(), "pack " + loc.Pack.Short(), "corrupt"}}, nil
		}},
		{"data flipped, not looked at", false, func(s *sample) (errs, hints []words) {
			s.change(packFile(s.place(blob.Data, s.a2).Pack), flipAt(int(s.place(blob.Data, s.a2).OffsetBytes)+20))
			return nil, nil
		}},
		{"data flipped", true, func(s *sample) (errs, hints []words) {
			loc := s.place(blob.Data, s.a2)
			s.change(packFile(loc.Pack), flipAt(int(loc.OffsetBytes)+20))
			return []words{{"pack/" + loc.Pack.Short(), "does not match its name"},
				{"data/" + s.a2.Short(), "pack " + loc.Pack.Short(), "corrupt"},
				{"snapshot " + s.first.Short() + ": /srv/a: ", "1 of 2 chunks", "data/" + s.a2.Short(), "damaged"},
				{"snapshot " + s.last.Short() + ": /srv/a: ", "1 of 2 chunks", "data/" + s.a2.Short(), "damaged"}}, nil
		}},
		{"header flipped", true, func(s *sample) (errs, hints []words) {
			loc := s.place(blob.Data, s.c)
			s.change(packFile(loc.Pack), flipAt(-10))
			return []words{{"pack/" + loc.Pack.Short(), "does not match its name"}, {"pack/" + loc.Pack.Short(), "header", "corrupt"}}, nil
		}},
		{"header length flipped", true, func(s *sample) (errs, hints []words) {
			loc := s.place(blob.Data, s.c)
			s.change(packFile(loc.Pack), flipAt(-1))
			return []words{{"pack/" + loc.Pack.Short(), "does not match its name"}, {"pack/" + loc.Pack.Short(), "header", "corrupt"}}, nil
		}},
		{"pack under another name", true, func(s *sample) (errs, hints []words) {
			a, b := s.place(blob.Data, s.c).Pack, s.place(blob.Data, s.a1).Pack
			content, _ := s.be.ReadAll(s.t.Context(), packFile(a), 1<<30)
			s.change(packFile(b), func([]byte) []byte { return content })
			return []words{{"pack/" + b.Short(), "the index makes it"}, {"pack/" + b.Short(), "does not match its name"},
				{"pack/" + b.Short(), "header and the index disagree", "lacks 1 blob", "3 blobs of the index"},
				{"data/" + s.a1.Short(), "beyond its end"}, {"data/" + s.a2.Short(), "beyond its end"}, {"data/" + s.b.Short(), "beyond its end"},
				{"/srv/a", "2 of 2 chunks", "too short"}, {"/srv/sub/b", "too short"},
				{"/srv/a", "2 of 2 chunks", "too short"}, {"/srv/sub/b", "too short"}}, nil
		}},
	})
}

func TestDamagedTrees(t *testing.T) {
	testDamage(t, []damageTest{
		{"blob in no index", false, func(s *sample) (errs, hints []words) {
			s.snapshotOf(file("x", 10, s.a1, blob.Hash([]byte("nowhere"))))
			return []words{{": /x: ", "1 of 2 chunks", "data/" + blob.Hash([]byte("nowhere")).Short(), "in no index"}}, nil
		}},
		{"tree as data", false, func(s *sample) (errs, hints []words) {
			s.snapshotOf(dir("x", s.a1))
			return []words{{": /x: ", "directory is lost", "tree/" + s.a1.Short(), "in no index"}}, nil
		}},
		{"nodes", false, func(s *sample) (errs, hints []words) {
			s.snapshotOf(
				snapshot.Node{Name: "a", Type: snapshot.Dir},
				snapshot.Node{Name: "b", Type: snapshot.File},
				snapshot.Node{Name: "c\n", Type: snapshot.Symlink},
				file("d", 5, s.a1),
				snapshot.Node{Name: "e", Type: snapshot.Fifo, Content: []blob.ID{s.a1}, Subtree: &s.sub},
			)
			return []words{{": /a: ", "no tree"}, {": /b: ", "no list of blobs"}},
				[]words{{`: /"c\n": `, "symbolic link to nothing"}, {": /d: ", "noted with 5 bytes", "100000"},
					{": /e: ", "fifo with content"}, {": /e: ", "fifo with a tree"}}
		}},
		{"tree that is none", false, func(s *sample) (errs, hints []words) {
			var bad, unsorted blob.ID
			s.write(func(w *repo.Writer) {
				bad = s.blob(w, blob.Tree, []byte(`{"nodes":7}`))
				unsorted = s.blob(w, blob.Tree, []byte(`{"nodes":[{"name":"b","type":"fifo"},{"name":"a","type":"fifo"}]}`))
			})
			s.snapshotOf(dir("x", bad), dir("y", unsorted))
			return []words{{": /x: ", "directory is lost", "tree/" + bad.Short()}, {": /y: ", "tree/" + unsorted.Short(), "not sorted"}}, nil
		}},
	})
}

// fileName is a file of a repository in a message.
var fileName = regexp.MustCompile(`\b(?:index|snapshot|pack|key)/[0-9a-f]{8}`)

func testDamage(t *testing.T, tests []damageTest) {
	t.Helper()
	for _, version := range []uint{1, 2} {
		sound := newSample(t, version)
		for _, test := range tests {
			t.Run(fmt.Sprintf("%s, version %d", test.name, version), func(t *testing.T) {
				s := sound.clone(t)
				wantErrs, wantHints := test.damage(s)
				_, f := run(t, s.reopen(), check.Options{ReadData: test.readData})
				compare := func(what string, want []words, got []string) {
					for _, text := range got {
						i := slices.IndexFunc(want, func(w words) bool { return holds(text, w) })
						if i < 0 {
							t.Errorf("%s that is not wanted: %s", what, text)
							continue
						}
						want = slices.Delete(slices.Clone(want), i, i+1)
						if name := fileName.FindString(text); name != "" && strings.Count(text, name) > 1 {
							t.Errorf("%s that names %s more than once: %s", what, name, text)
						}
					}
					if len(want) > 0 {
						t.Errorf("%ss that are missing: %q", what, want)
					}
				}
				compare("error", wantErrs, f.errors)
				compare("hint", wantHints, f.hints)
			})
		}
	}
}
