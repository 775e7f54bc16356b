package accept

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// besides is a mount that is read while other clients write to its repository.
type besides struct {
	*lab
	m      *mounted
	source string
	random *rand.Rand

	mu   sync.Mutex // guards kept
	kept []keptSnapshot

	reads atomic.Int64
}

// keptSnapshot is one that nobody forgets.
type keptSnapshot struct {
	id    string
	files map[string][sha256.Size]byte // by path below the source
}

// TestMountBesidePrunes reads kept snapshots through a mount, all the time, while vitrine and restic in turn back up,
// forget and prune. Each prune writes the packs of the newest snapshot again, of which the mount knows only the old
// place. A file that was open before is read to its end; new snapshots appear, and those that are forgotten go.
func TestMountBesidePrunes(t *testing.T) {
	rounds := 2
	if long {
		rounds = 16
	}
	b := &besides{lab: newLab(t).checked(), random: rand.New(rand.NewPCG(11, 29))}
	b.source = b.dir + "/source"
	b.vitrine("init")
	b.quicken()
	b.grow("keep/first", 30)
	b.client(0)("backup", "--pack-size", "4", b.source)
	b.read(b.newestAsIs())
	b.m = b.mount("--memory", "16m")

	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for i := range 4 {
		random := rand.New(rand.NewPCG(uint64(i), 5))
		readers.Go(func() {
			for ctx.Err() == nil {
				b.readSome(random)
			}
		})
	}
	readers.Go(func() {
		for ctx.Err() == nil {
			b.listKept()
		}
	})
	for round := range rounds {
		b.round(round)
	}
	stop()
	readers.Wait()
	if n := b.reads.Load(); n < int64(50*rounds) {
		t.Errorf("only %d files were read meanwhile", n)
	}
	t.Logf("%d files were read", b.reads.Load())
	for _, s := range b.kept {
		for name := range s.files {
			b.readKept(s, name)
		}
	}
	b.m.stop()
	b.restic("check", "--read-data")
}

// client returns vitrine and restic in turn.
func (b *besides) client(n int) func(...string) string {
	if n%2 == 0 {
		return b.vitrine
	}
	return b.restic
}

// round makes a snapshot that stays and shares its packs with one that goes, and prunes.
func (b *besides) round(n int) {
	b.t.Helper()
	back, prune := b.client(n), b.client(n/2)
	b.grow(fmt.Sprintf("keep/round%d", n), 12)
	b.grow("waste", 12)
	back("backup", "--pack-size", "4", b.source)
	waste := b.newest()
	b.appears(waste)
	if err := os.RemoveAll(b.source + "/waste"); err != nil {
		b.t.Fatal(err)
	}
	back("backup", b.source)
	fresh := b.newestAsIs()
	b.appears(fresh.id)
	b.read(fresh)

	open := b.openHalf(fresh, fmt.Sprintf("keep/round%d/large", n))
	prune("forget", waste)
	packs := b.files("data")
	prune("prune", "--max-unused", "0")
	if left := b.files("data"); !slices.ContainsFunc(packs, func(p string) bool { return !slices.Contains(left, p) }) {
		b.t.Error("the prune has removed no pack")
	}
	open()
	for name := range fresh.files {
		b.readKept(fresh, name)
	}
	b.goes(waste)
}

// grow writes files of random content; the large one has several chunks, and more than a read ahead takes at once.
func (b *besides) grow(dir string, files int) {
	b.t.Helper()
	dir = filepath.Join(b.source, dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	file := func(name string, sizeBytes int) {
		content := make([]byte, sizeBytes)
		for i := 0; i+8 <= len(content); i += 8 {
			v := b.random.Uint64()
			for k := range 8 {
				content[i+k] = byte(v >> (8 * k))
			}
		}
		write(b.t, filepath.Join(dir, name), string(content))
	}
	for i := range files {
		file(fmt.Sprint("f", i), 1000+b.random.IntN(100_000))
	}
	file("large", 16<<20)
}

// newest returns the ID of the newest snapshot.
func (b *besides) newest() string {
	b.t.Helper()
	var snapshots []struct {
		ID   string
		Time time.Time
	}
	if err := json.Unmarshal([]byte(b.vitrine("snapshots", "--json")), &snapshots); err != nil {
		b.t.Fatal(err)
	}
	slices.SortFunc(snapshots, func(a, b struct {
		ID   string
		Time time.Time
	}) int {
		return a.Time.Compare(b.Time)
	})
	return snapshots[len(snapshots)-1].ID
}

// newestAsIs returns the newest snapshot and what is in it.
func (b *besides) newestAsIs() keptSnapshot {
	b.t.Helper()
	s := keptSnapshot{b.newest(), map[string][sha256.Size]byte{}}
	err := filepath.WalkDir(b.source, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(p)
		s.files[strings.TrimPrefix(p, b.source+"/")] = sha256.Sum256(content)
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// read lets the readers have a snapshot that the mount shows.
func (b *besides) read(s keptSnapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept = append(b.kept, s)
}

func (b *besides) root(id string) string { return filepath.Join(b.m.dir, "ids", id[:8], b.source) }

// appearTime is how long a mount may take to show what has changed.
const appearTime = 30 * time.Second

func (b *besides) appears(id string) {
	b.t.Helper()
	for end := time.Now().Add(appearTime); ; time.Sleep(20 * time.Millisecond) {
		if entries, err := os.ReadDir(b.m.dir + "/ids"); err != nil {
			b.t.Fatal(err)
		} else if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == id[:8] }) {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("snapshot %.8s does not appear within %v", id, appearTime)
		}
	}
}

func (b *besides) goes(id string) {
	b.t.Helper()
	for end := time.Now().Add(appearTime); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(b.m.dir + "/ids/" + id[:8]); errors.Is(err, fs.ErrNotExist) {
			return
		} else if err != nil {
			b.t.Fatal(err)
		}
		if time.Now().After(end) {
			b.t.Errorf("snapshot %.8s is still there %v after it was forgotten", id, appearTime)
			return
		}
	}
}

// some returns a kept snapshot by chance.
func (b *besides) some(random *rand.Rand) keptSnapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kept[random.IntN(len(b.kept))]
}

// readSome reads a file by chance.
func (b *besides) readSome(random *rand.Rand) {
	s := b.some(random)
	names := slices.Sorted(maps.Keys(s.files))
	b.readKept(s, names[random.IntN(len(names))])
	b.reads.Add(1)
}

// readKept reads a file anew, not from the cache of the kernel, and compares.
func (b *besides) readKept(s keptSnapshot, name string) {
	f, err := os.Open(filepath.Join(b.root(s.id), name))
	if err != nil {
		b.t.Error(err)
		return
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		b.t.Error(err)
	}
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil || [sha256.Size]byte(h.Sum(nil)) != s.files[name] {
		b.t.Errorf("%s of snapshot %.8s: %d bytes read, %v, or they are wrong", name, s.id, n, err)
	}
}

// listKept walks through a kept snapshot and looks whether all is there.
func (b *besides) listKept() {
	s := b.some(rand.New(rand.NewPCG(uint64(b.reads.Load()), 0)))
	found := 0
	err := filepath.WalkDir(b.root(s.id), func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type().IsRegular() {
			found++
		}
		_, err = d.Info()
		return err
	})
	if err != nil || found != len(s.files) {
		b.t.Errorf("snapshot %.8s: %d files are listed, want %d; %v", s.id, found, len(s.files), err)
	}
}

// openHalf reads the beginning of a file. The function it returns reads the rest.
func (b *besides) openHalf(s keptSnapshot, name string) (rest func()) {
	b.t.Helper()
	f, err := os.Open(filepath.Join(b.root(s.id), name))
	if err != nil {
		b.t.Fatal(err)
	}
	h := sha256.New()
	if _, err := io.CopyN(h, f, 64<<10); err != nil {
		b.t.Fatal(err)
	}
	return func() {
		b.t.Helper()
		defer f.Close()
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			b.t.Error(err)
		}
		n, err := io.Copy(h, f)
		if err != nil || [sha256.Size]byte(h.Sum(nil)) != s.files[name] {
			b.t.Errorf("%s was open before the prune: %d bytes of the rest read, %v, or they are wrong", name, n, err)
		}
	}
}
