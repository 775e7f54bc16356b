package indexdb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"vitrine/cache/indexdb/indextest"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// dirSource is a repository of index files that several processes see: each is a file named by its
// seed in a directory.
type dirSource string

// fileID is the name of the index file of a seed.
func fileID(seed uint64) (id blob.ID) {
	binary.BigEndian.PutUint64(id[:], seed)
	return id
}

const dirSourceEntries = 700

func (s dirSource) path(seed uint64) string {
	return filepath.Join(string(s), strconv.FormatUint(seed, 10))
}

func (s dirSource) add(seed uint64) error    { return os.WriteFile(s.path(seed), nil, 0o600) }
func (s dirSource) remove(seed uint64) error { return os.Remove(s.path(seed)) }

func (s dirSource) IndexFiles(context.Context) ([]backend.Info, error) {
	names, err := os.ReadDir(string(s))
	var infos []backend.Info
	for _, e := range names {
		seed, err := strconv.ParseUint(e.Name(), 10, 64)
		if err != nil {
			return nil, err
		}
		infos = append(infos, backend.Info{Name: fileID(seed).String()})
	}
	return infos, err
}

func (s dirSource) LoadIndexFile(_ context.Context, id blob.ID, fn func(blob.Entry) error) error {
	seed := binary.BigEndian.Uint64(id[:])
	if _, err := os.Stat(s.path(seed)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("index/%s: %w", id.Short(), backend.ErrNotExist)
	}
	for _, e := range indextest.Entries(seed, dirSourceEntries) {
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// checkSeed looks up what the index file of a seed lists.
func checkSeed(d *DB, seed uint64) error {
	for i, e := range indextest.Entries(seed, dirSourceEntries) {
		loc, ok, err := d.Lookup(e.Handle)
		if err != nil || !ok || loc != e.Location {
			return fmt.Errorf("seed %d, entry %d: Lookup(%v) = %+v, %v, %w", seed, i, e.Handle, loc, ok, err)
		}
	}
	return nil
}

// stableSeed is always in the source of a victim.
const stableSeed = 1

// victim opens, checks, refreshes and closes the index of root/index over the source
// root/source for ever; it ends with 3 when an answer is wrong, with 0 on SIGTERM.
func victim(root, builder string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	for ctx.Err() == nil {
		if err := victimOnce(ctx, root, builder); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "victim:", err)
			return 3
		}
	}
	return 0
}

func victimOnce(ctx context.Context, root, builder string) error {
	src := dirSource(filepath.Join(root, "source"))
	d, err := open(ctx, filepath.Join(root, "index"), testSecret, src, Options{Builder: builder}, alwaysBuild)
	if err != nil {
		return err
	}
	defer d.Close()
	for range 3 {
		if err := checkSeed(d, stableSeed); err != nil {
			return err
		}
		if err := d.Refresh(ctx); err != nil {
			return err
		}
	}
	return d.Close()
}

// Several processes use and build one cache while the repository changes, and are killed at any
// moment. Then everything is right, and nothing is left behind.
func TestKilledProcesses(t *testing.T) {
	const processes, rounds = 3, 25
	root := t.TempDir()
	src := dirSource(filepath.Join(root, "source"))
	if err := os.Mkdir(string(src), 0o700); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(5) {
		if err := src.add(stableSeed + seed); err != nil {
			t.Fatal(err)
		}
	}
	start := func() *exec.Cmd {
		cmd := runSelf(victimArg, root, quickBuilder)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	var running [processes]*exec.Cmd
	for i := range running {
		running[i] = start()
	}
	r := rand.New(rand.NewPCG(5, 6))
	seed := uint64(100)
	for round := range rounds {
		time.Sleep(time.Duration(r.IntN(120)) * time.Millisecond)
		if err := src.add(seed); err != nil {
			t.Fatal(err)
		}
		if round%3 == 2 {
			if err := src.remove(seed - 2); err != nil {
				t.Fatal(err)
			}
		}
		seed++
		i := r.IntN(processes)
		running[i].Process.Kill()
		if running[i].Wait(); running[i].ProcessState.Exited() {
			t.Fatalf("round %d: a process ended by itself: %v", round, running[i].ProcessState)
		}
		running[i] = start()
	}
	for _, cmd := range running {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil && cmd.ProcessState.Exited() {
			t.Errorf("a process ended with %v", err)
		}
	}

	dir := filepath.Join(root, "index")
	d := openTest(t, dir, src, alwaysBuild)
	gen := waitBuilt(t, d).Generation
	for _, info := range must(src.IndexFiles(t.Context())) {
		id := must(blob.ParseID(info.Name))
		if err := checkSeed(d, binary.BigEndian.Uint64(id[:])); err != nil {
			t.Fatal(err)
		}
	}
	// Children whose parents were killed may take a moment to notice.
	waitFor(t, "leftovers to go", func() bool {
		d.sweep()
		names := must(os.ReadDir(dir))
		for _, e := range names {
			if e.Name() != gen && e.Name() != currentName && e.Name() != "build.lock" {
				return false
			}
		}
		return true
	})
}

// fullDiskArg makes the test binary run fullDisk, in a mount namespace of its own.
const fullDiskArg = "indexdb-full-disk"

// The disk is full though it did not look so: the child gets SIGBUS, the parent goes on. On a
// small tmpfs in a namespace of its own, which goes with the process.
func TestFullDisk(t *testing.T) {
	cmd := runSelf(fullDiskArg, t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
}

func fullDiskMain(dir string) int {
	if err := fullDisk(dir); err != nil {
		fmt.Fprintln(os.Stderr, "full disk:", err)
		return 1
	}
	return 0
}

func fullDisk(dir string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	src := indextest.NewSource()
	for seed := range uint64(4) {
		src.Add(indextest.Entries(seed, 20_000))
	}
	log, logged := logTo()
	d, err := open(context.Background(), dir, testSecret, src, Options{Log: log, Builder: Self}, func(d *DB) {
		d.worthBuilding = always
		d.freeBytes = func(string) (int64, error) { return 1 << 40, nil }
	})
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(20 * time.Second); logged() == ""; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("no warning: %+v", d.Stats())
		}
	}
	if !strings.Contains(logged(), "SIGBUS") {
		return fmt.Errorf("logged %s", logged())
	}
	for h, want := range src.All() {
		if loc, ok, err := d.Lookup(h); err != nil || !ok || loc != want[0] {
			return fmt.Errorf("Lookup(%v) = %+v, %v, %w", h, loc, ok, err)
		}
	}
	if err := d.Close(); err != nil {
		return err
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 1 {
		return fmt.Errorf("left %v, %w", names, err)
	}
	return nil
}
