package indexdb

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/ristretto/v2/z"
	"golang.org/x/sys/unix"
)

// BuilderArg is the only argument of the child process that builds a generation. A program that
// names itself in Options.Builder calls BuildMain first of all when it sees it.
const BuilderArg = "index-cache-build"

// builderMemoryBytes is where the child's garbage collector gets busy. Its live data are some
// tables of at most 32 MiB.
const builderMemoryBytes = 192 << 20

// BuildMain is the child process: it takes its order from standard input, says on standard
// output when it is done or on standard error why not, and returns the exit code.
func BuildMain() int {
	unix.Umask(0o077)
	debug.SetMemoryLimit(builderMemoryBytes)
	debug.SetGCPercent(50)
	// When memory runs out the child should go, not the parent: best effort.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0)
	o, err := buildTables(bufio.NewReaderSize(os.Stdin, 1<<20))
	if err == nil {
		_, err = io.WriteString(os.Stdout, o.answer())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// buildTables makes the Badger database of an order, durable.
func buildTables(in *bufio.Reader) (*order, error) {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("read order: %w", err)
	}
	var o order
	if err := json.Unmarshal(line, &o); err != nil {
		return nil, fmt.Errorf("read order: %w", err)
	}
	db, err := badger.OpenManaged(builderOptions(&o))
	if err != nil {
		return nil, fmt.Errorf("create badger: %w", err)
	}
	if err := copyBuckets(db, in, &o); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := db.Close(); err != nil {
		return nil, fmt.Errorf("close badger: %w", err)
	}
	return &o, finish(o.Dir)
}

func builderOptions(o *order) badger.Options {
	// StreamWriter writes to the last level, whose tables are 32 times the base.
	return badgerOptions(o.Dir).WithBaseTableSize(o.TableBytes / 32).WithLogger(nil)
}

// copyBuckets streams the buckets into tables. When the parent dies the input ends without its
// mark.
func copyBuckets(db *badger.DB, in *bufio.Reader, o *order) error {
	buckets := o.Buckets
	w := db.NewStreamWriter()
	defer w.Cancel()
	if err := w.Prepare(); err != nil {
		return fmt.Errorf("prepare badger: %w", err)
	}
	const batchBytes = 1 << 20
	batch := z.NewBuffer(2*batchBytes, "index buckets")
	defer batch.Release()
	var head, key [4]byte
	for no := range buckets {
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return fmt.Errorf("read bucket %d: %w", no, err)
		}
		n := binary.LittleEndian.Uint32(head[:])
		if n > maxBucketBytes {
			return fmt.Errorf("bucket %d has %d bytes", no, n)
		}
		value := make([]byte, n)
		if _, err := io.ReadFull(in, value); err != nil {
			return fmt.Errorf("read bucket %d: %w", no, err)
		}
		binary.BigEndian.PutUint32(key[:], uint32(no))
		badger.KVToBuffer(&pb.KV{Key: key[:], Value: value, Version: 1, StreamId: 1}, batch)
		if batch.LenNoPadding() > batchBytes || no == buckets-1 {
			if err := w.Write(batch); err != nil {
				return fmt.Errorf("write bucket %d: %w", no, err)
			}
			batch.Reset()
		}
		if no%trimBuckets == trimBuckets-1 {
			trimWritten(o.Dir)
		}
	}
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return fmt.Errorf("read end of buckets: %w", err)
	}
	if binary.LittleEndian.Uint32(head[:]) != endOfBuckets {
		return fmt.Errorf("read end of buckets: found % x", head)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("flush badger: %w", err)
	}
	return nil
}

// trimBuckets is after how many buckets, some 6 MiB, the tables written so far are taken out of the child's memory.
const trimBuckets = 1 << 14

// trimWritten does so. Badger maps each table when it makes it, until it is closed: while buckets are copied no address
// becomes that of something else, and what was written stays in the system's cache of pages.
func trimWritten(dir string) {
	if tables, err := mappings(filepath.Base(dir)); err == nil {
		(&trimmer{tables: tables}).trim()
	}
}

// finish leaves only the files that a read-only database needs and makes them durable.
func finish(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch ext := filepath.Ext(path); {
		case ext == ".sst", e.Name() == "MANIFEST", e.Name() == "KEYREGISTRY":
			err = syncFile(path)
		case ext == ".vlog", ext == ".mem", e.Name() == "DISCARD":
			err = os.Remove(path)
		case e.Name() != packsName:
			err = fmt.Errorf("badger left a file %s", strings.ToValidUTF8(e.Name(), "?"))
		}
		if err != nil {
			return err
		}
	}
	return syncDir(dir)
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
