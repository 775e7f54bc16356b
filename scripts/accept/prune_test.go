package accept

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pruneHistory is a repository to which vitrine and restic write in turn, and what its snapshots show.
type pruneHistory struct {
	*lab
	rnd    *rand.Rand
	source string
	want   map[string]string // by snapshot: the root tree
}

// change writes, changes and removes some files; some are large enough for several chunks.
func (h *pruneHistory) change() {
	h.t.Helper()
	for range 12 {
		name := fmt.Sprintf("%s/d%d/f%d", h.source, h.rnd.IntN(4), h.rnd.IntN(10))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			h.t.Fatal(err)
		}
		if h.rnd.IntN(4) == 0 {
			os.Remove(name)
			continue
		}
		size := h.rnd.IntN(40_000)
		if h.rnd.IntN(6) == 0 {
			size = 1 << 21
		}
		content := make([]byte, size)
		for i := range content {
			content[i] = byte(h.rnd.Uint32())
		}
		write(h.t, name, string(content))
	}
}

// trees asks restic for the root tree of each snapshot.
func (h *pruneHistory) trees() map[string]string {
	h.t.Helper()
	var snapshots []struct{ ID, Tree string }
	if err := json.Unmarshal([]byte(h.restic("snapshots", "--json")), &snapshots); err != nil {
		h.t.Fatal(err)
	}
	trees := map[string]string{}
	for _, s := range snapshots {
		trees[s.ID] = s.Tree
	}
	return trees
}

// unusedAtMost asks restic how much is unused, in percent. What it would prune is no measure: below its limit, too, it
// writes packs again that are smaller than new ones.
func (h *pruneHistory) unusedAtMost(limit float64) {
	h.t.Helper()
	out := h.restic("prune", "--dry-run", "--max-unused", "unlimited", "-vv")
	_, rest, _ := strings.Cut(out, "\nunused size: ")
	var unused float64
	if _, err := fmt.Sscanf(rest, "%f%% of total size", &unused); err != nil || unused > limit {
		h.t.Errorf("unused are %g %%, want at most %g (%v):\n%s", unused, limit, err, clip(out))
	}
}

// TestPruneHistories prunes what two clients have written, forgotten and tagged in random order, below a mount that reads
// on. Both programs find all snapshots whole each time, and restic finds no more unused than is allowed.
func TestPruneHistories(t *testing.T) {
	rounds := 2
	if long {
		rounds = 15
	}
	l := newLab(t).checked()
	h := &pruneHistory{lab: l, rnd: rand.New(rand.NewPCG(20, 26)), source: l.dir + "/source", want: map[string]string{}}
	h.change()
	l.vitrine("init")
	l.vitrine("backup", h.source)
	m := l.mount()
	for round := range rounds {
		programs := []func(...string) string{l.vitrine, l.restic}
		for _, backup := range programs {
			h.change()
			backup("backup", h.source)
		}
		ids := make([]string, 0, 3)
		for id := range h.trees() {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		h.rnd.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		programs[(round+1)%2]("tag", "--add", fmt.Sprint("round", round), ids[1])
		h.want = h.trees()
		delete(h.want, ids[0])
		prune := []string{"prune"}
		if round%2 == 0 {
			prune = []string{"forget", "--prune", ids[0]} // in one
		} else {
			l.restic("forget", ids[0])
		}
		limit := []float64{1, 0}[(round+round/2)%2]
		out := l.vitrine(append(prune, "--max-unused", fmt.Sprintf("%g%%", limit))...)
		if strings.Contains(out, "total prune: 0 blobs") {
			t.Errorf("nothing to prune:\n%s", out)
		}
		l.restic("check", "--read-data")
		if got := h.trees(); fmt.Sprint(got) != fmt.Sprint(h.want) {
			t.Errorf("round %d: snapshots are %v, want %v", round, got, h.want)
		}
		h.unusedAtMost(limit)
		for id := range h.want {
			if out := l.must("bash", "-o", "pipefail", "-c", `find "$1" -type f -exec cat {} + | wc -c`, "bash", m.dir+"/ids/"+id[:8]+h.source); strings.TrimSpace(out) == "0" {
				t.Errorf("the mount shows nothing in %.8s", id)
			}
		}
	}
	l.restic("backup", h.source)
	l.vitrine("restore", "latest", "--target", l.dir+"/restored", "--verify")
	l.same(h.source, l.dir+"/restored"+h.source)
}
