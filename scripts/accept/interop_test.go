package accept

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

var versions = []int{1, 2}

// What vitrine writes, restic accepts, and restores to the same tree.
func TestVitrineWritesResticReads(t *testing.T) {
	source := realTree(t)
	for _, version := range versions {
		t.Run("v"+strconv.Itoa(version), func(t *testing.T) {
			l := newLab(t).checked()
			if version == 1 { // the race detector has seen enough with the other one
				l.plain()
			}
			l.vitrine("init", "--repository-version", strconv.Itoa(version))
			l.vitrine("backup", source)
			l.restic("check", "--read-data")
			l.restic("restore", "latest", "--target", l.dir+"/restored")
			l.same(source, l.dir+"/restored"+source)
		})
	}
}

// What restic writes, vitrine accepts, and the mount shows the same tree to every tool.
func TestResticWritesVitrineReads(t *testing.T) {
	source := realTree(t)
	for _, version := range versions {
		t.Run("v"+strconv.Itoa(version), func(t *testing.T) {
			l := newLab(t).checked()
			if version == 1 { // the race detector has seen enough with the other one
				l.plain()
			}
			l.restic("init", "--repository-version", strconv.Itoa(version))
			l.restic("backup", source)
			l.vitrine("check", "--read-data")
			m := l.mount()
			if out := l.must("diff", "-r", "--no-dereference", source, m.latest(source)); out != "" {
				t.Errorf("diff found:\n%s", clip(out))
			}
			l.copiesOut(source, m.latest(source))
			l.vitrine("restore", "latest", "--target", l.dir+"/restored", "--verify")
			l.same(source, l.dir+"/restored"+source)
		})
	}
}

// copiesOut takes the mounted directory out with each of the usual tools.
func (l *lab) copiesOut(source, view string) {
	l.t.Helper()
	l.same(source, view)
	for tool, command := range map[string]string{
		"cp":    `cp -a "$1/." "$2/"`,
		"rsync": `rsync -aHAXS "$1/" "$2/"`,
		"tar":   `tar -C "$1" --xattrs --xattrs-include='*' --acls -cf - . | tar -C "$2" --xattrs --xattrs-include='*' --acls -xpf -`,
	} {
		to := l.dir + "/by-" + tool
		if err := os.Mkdir(to, 0o755); err != nil {
			l.t.Fatal(err)
		}
		l.must("bash", "-euo", "pipefail", "-c", command, tool, view, to)
		l.same(source, to)
		if err := os.RemoveAll(to); err != nil {
			l.t.Fatal(err)
		}
	}
}

// The two programs cut, name and serialise alike: the second backup of the same tree by
// the other one adds no blob and arrives at the same root tree.
func TestSecondBackupAddsNothing(t *testing.T) {
	// A relative path from here has no parent directories whose times could change meanwhile.
	name := filepath.Base(realTree(t))
	vitrine := func(l *lab) string {
		return parseSummary(l.t, l.in(base, l.vitrineCommand(), "backup", "--force", "--json", name)).describe()
	}
	restic := func(l *lab) string {
		return parseSummary(l.t, l.in(base, l.resticCommand(), "backup", "--force", "--json", name)).describe()
	}
	for _, c := range []struct {
		name          string
		first, second func(*lab) string
	}{
		{"restic first", restic, vitrine},
		{"vitrine first", vitrine, restic},
	} {
		for _, version := range versions {
			t.Run(c.name+" v"+strconv.Itoa(version), func(t *testing.T) {
				l := newLab(t).plain().checked()
				l.vitrine("init", "--repository-version", strconv.Itoa(version))
				c.first(l)
				if got, want := c.second(l), "0 data and 0 tree blobs, 0 bytes"; got != want {
					t.Errorf("the second backup added %s, want %s", got, want)
				}
				if trees := l.rootTrees(); len(trees) != 2 || trees[0] != trees[1] {
					t.Errorf("root trees are %v, want the same twice", trees)
				}
			})
		}
	}
}
