package indexdb

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// buildIfWorth builds the next generation when that pays and no other process does. errLocked:
// one does.
func (d *DB) buildIfWorth(ctx context.Context) error {
	if d.builder == "" || time.Now().Before(d.notBefore) || !d.worthBuilding(d.core.stats()) {
		return nil
	}
	lock, err := lockBuild(d.dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	// Whoever had the lock before us has probably built it already.
	m, err := readCurrent(d.dir, d.core.keys)
	if err == nil && nameOf(m) != d.core.stats().Generation {
		if err := d.core.refresh(ctx, d.choose); err != nil {
			return err
		}
		if !d.worthBuilding(d.core.stats()) {
			return nil
		}
	}
	d.building.Store(true)
	defer d.building.Store(false)
	return d.build(ctx)
}

// build makes the next generation from the present state and switches to it. The caller holds
// build.lock.
func (d *DB) build(ctx context.Context) (err error) {
	st := d.core.state.Load()
	if st == nil {
		return ErrClosed
	}
	if st.gen != nil {
		if !st.gen.acquire() {
			return errLocked // replaced this moment: look again
		}
		defer st.gen.release()
	}
	began := time.Now()
	d.sweepLocked()
	c := newComposer(d.core.keys, st)
	if err := d.checkSpace(c.needBytes()); err != nil {
		return err
	}
	path := filepath.Join(d.dir, c.meta.Name)
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}()
	if err := c.writePacks(filepath.Join(path, packsName)); err != nil {
		return d.noteDamage(ctx, fmt.Errorf("write pack table: %w", err), st.gen)
	}
	if st.stats.DeltaEntries > int64(d.core.spill.most) {
		debug.FreeOSMemory() // what reading so many has left, which is as much as the child takes now
	}
	if err := d.runBuilder(ctx, c, path); err != nil {
		return d.noteDamage(ctx, err, st.gen)
	}
	if c.meta.Parts, err = describe(path); err != nil {
		return err
	}
	gen, err := openGeneration(d.dir, d.core.keys, c.meta, d.table, d.core.log)
	if err != nil {
		return err
	}
	if err := writeCurrent(d.dir, d.core.keys, c.meta); err != nil {
		gen.release()
		return err
	}
	d.core.log.Debug("built index cache", "generation", c.meta.Name, "entries", c.meta.Entries, "time", time.Since(began))
	d.adopt(ctx, gen)
	d.sweepLocked()
	return nil
}

// adopt switches lookups to the generation that CURRENT names now. If the repository cannot be
// listed they stay with what they have, which is just as right; the next Refresh switches.
func (d *DB) adopt(ctx context.Context, gen *generation) {
	taken := false
	err := d.core.refresh(ctx, func(*state) *generation {
		taken = true
		return gen
	})
	if err != nil {
		d.core.log.Debug("switch to the new index cache", "error", err)
	}
	if !taken {
		gen.release() // another refresh came first and opened it for itself
	}
}

// noteDamage has replaced what a build found damaged: the generation, or what was spilled. The caller holds build.lock.
func (d *DB) noteDamage(ctx context.Context, err error, gen *generation) error {
	if isSpilled(err) {
		d.core.spill.unreadable(err)
		return errors.Join(err, d.core.refresh(ctx, d.choose))
	}
	if gen != nil && errors.Is(err, errCorrupt) {
		d.removeCurrent(gen.meta.Name) // discard cannot while build.lock is ours
		if gen.bad.CompareAndSwap(false, true) {
			d.wake()
		}
	}
	return err
}

// checkSpace keeps a reserve: the generation is a convenience, the disk may be somebody's only one.
func (d *DB) checkSpace(needBytes int64) error {
	free, err := d.freeBytes(d.dir)
	if err != nil {
		return fmt.Errorf("ask for free space: %w", err)
	}
	if need := withReserve(needBytes); free < need {
		return fmt.Errorf("%s has %d MiB free, %d are needed", d.dir, free>>20, need>>20)
	}
	return nil
}

const minReserveBytes = 16 << 20

func withReserve(needBytes int64) int64 { return needBytes + max(needBytes/4, minReserveBytes) }

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Frsize), nil
}

// order is the first line of what the child reads, as JSON. Then come the buckets, each as 4
// bytes length (little-endian) and content, then endOfBuckets. No secret is among it, the
// content is masked.
type order struct {
	Dir        string `json:"dir"` // exists
	Buckets    uint64 `json:"buckets"`
	TableBytes int64  `json:"table_bytes"`
}

// endOfBuckets tells a finished stream from one whose writer died.
const endOfBuckets = 0xffffffff

// answer is what the child says on standard output when all is durable.
func (o *order) answer() string { return fmt.Sprintf("built %d buckets\n", o.Buckets) }

// builderEnv marks the child's environment, which has nothing else in it.
const builderEnv = "VITRINE_INDEX_BUILDER"

// runBuilder has a child process write Badger's files to path.
func (d *DB) runBuilder(ctx context.Context, c *composer, path string) error {
	cmd := exec.CommandContext(ctx, d.builder, BuilderArg)
	cmd.Env = []string{builderEnv + "=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C at the terminal is the parent's to handle
	cmd.WaitDelay = time.Second
	stdout, stderr := limitedBuffer{limit: 256}, limitedBuffer{limit: 2048}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start builder: %w", err)
	}
	o := order{Dir: path, Buckets: 1 << c.meta.Bits, TableBytes: c.tableBytes()}
	composeErr := writeOrder(pipe, &o, c)
	closeErr := pipe.Close()
	switch err := cmd.Wait(); {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(composeErr, errCorrupt), isSpilled(composeErr):
		return composeErr // the child only saw its input end
	case err != nil:
		return fmt.Errorf("builder: %w: %s", err, firstLines(stderr.String()))
	case composeErr != nil || closeErr != nil:
		return fmt.Errorf("write to builder: %w", errors.Join(composeErr, closeErr))
	case stdout.String() != o.answer():
		return fmt.Errorf("builder said %q", stdout.String())
	}
	return nil
}

func writeOrder(pipe io.Writer, o *order, c *composer) error {
	w := bufio.NewWriterSize(pipe, 1<<20)
	line, err := json.Marshal(o)
	if err != nil {
		return err
	}
	w.Write(append(line, '\n')) // a bufio.Writer keeps its first error for Flush
	if err := c.writeBuckets(w); err != nil {
		return err
	}
	return w.Flush()
}

// limitedBuffer keeps the first bytes that are written to it.
type limitedBuffer struct {
	bytes.Buffer
	limit int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), max(b.limit-b.Len(), 0))])
	return len(p), nil
}

// firstLines makes the head of a crash report fit a log line.
func firstLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[:min(len(lines), 4)], "; ")
}

// sweep removes what no process needs any more, if no builder is at work.
func (d *DB) sweep() {
	if _, err := os.Stat(d.dir); err != nil {
		return // deleted: do not make it anew
	}
	if lock, err := lockBuild(d.dir); err == nil {
		d.sweepLocked()
		lock.Close()
	}
}

// sweepLocked needs build.lock. It removes what CURRENT does not name and nobody has open.
func (d *DB) sweepLocked() {
	m, err := readCurrent(d.dir, d.core.keys)
	if err != nil && !errors.Is(err, errCorrupt) {
		return // not legible now, and may be later
	}
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		path := filepath.Join(d.dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), currentName+".tmp-"):
			err = os.Remove(path)
		case strings.HasPrefix(e.Name(), genPrefix) && e.Name() != nameOf(m):
			err = removeUnused(path)
		default:
			continue
		}
		if err != nil && !errors.Is(err, errLocked) && !errors.Is(err, errGone) {
			d.core.log.Debug("remove old index cache", "error", err)
		}
	}
}

// removeUnused removes a generation that nobody reads. Readers hold a shared lock from before
// they look at it; those who come later see that it is gone and read CURRENT again.
func removeUnused(path string) error {
	lock, err := flock(path, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close()
	return os.RemoveAll(path)
}

// newName returns a name that no generation had before.
func newName(number uint64) string {
	var b [4]byte
	rand.Read(b[:])
	return fmt.Sprintf("%s%06d-%x", genPrefix, number, b)
}
