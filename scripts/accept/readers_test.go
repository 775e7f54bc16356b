package accept

import (
	"bufio"
	"bytes"
	"encoding/gob"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// readers copy a tree from a mount, each in its own order, and compare what they got. They are in a process of their
// own: while one waits for the mount in a system call Go's scheduler counts it as running, and on a busy machine the
// lines to the servers, which are in the process of the tests, would stand still for seconds.
type readers struct {
	begun chan struct{} // closed when the first files have been read
	left  atomic.Int64  // files not yet read
	ended chan struct{} // closed when the process has ended
	err   error         // of the process, once it has ended
	log   bytes.Buffer  // what it says, likewise
}

// beReaders is the variable that makes the test binary the process of readers.
const beReaders = "VITRINE_ACCEPT_READERS"

// readersTask comes to them on standard input, as gob, for names of files are any bytes.
type readersTask struct {
	Source, View string
	Files        []string // from Source, or View
	Count        int
}

// startReaders starts count readers of a directory of a mount that shows source.
func startReaders(t *testing.T, source string, m *mounted, count int) *readers {
	t.Helper()
	task := readersTask{Source: source, View: m.latest(source), Count: count}
	err := filepath.WalkDir(source, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			task.Files = append(task.Files, p[len(source):])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &readers{begun: make(chan struct{}), ended: make(chan struct{})}
	var input bytes.Buffer
	if err := gob.NewEncoder(&input).Encode(task); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), beReaders+"=1")
	cmd.Stdin, cmd.Stderr = &input, &r.log
	told, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	r.left.Store(int64(count * len(task.Files)))
	go func() {
		defer close(r.ended)
		begun := sync.OnceFunc(func() { close(r.begun) })
		read := 0
		for lines := bufio.NewScanner(told); lines.Scan(); {
			r.left.Add(-1)
			if read++; read == 4*count {
				begun()
			}
			if bad := lines.Text(); bad != "" {
				t.Error(bad)
			}
		}
		begun() // whatever happened, nobody is to wait for it
		r.err = cmd.Wait()
	}()
	t.Cleanup(func() { // they have been killed by now, but who waits for an answer of the mount does not notice
		select {
		case <-r.ended:
		case <-time.After(5 * time.Second):
			m.kill()
			<-r.ended
		}
	})
	return r
}

// wait returns when all has been read, and tells what was wrong.
func (r *readers) wait(t *testing.T) {
	t.Helper()
	<-r.ended
	if left := r.left.Load(); r.err != nil || left != 0 {
		t.Errorf("the readers ended with %d files left: %v\n%s", left, r.err, clip(r.log.String()))
	}
}

// readAll is the process of the readers. It prints a line for each file, which is empty when all is well.
func readAll() {
	var task readersTask
	if err := gob.NewDecoder(os.Stdin).Decode(&task); err != nil {
		panic(err)
	}
	var wg sync.WaitGroup
	for i := range task.Count {
		order := rand.New(rand.NewPCG(1, uint64(i))).Perm(len(task.Files))
		wg.Go(func() {
			for _, at := range order {
				fmt.Println(readOne(i, task.Source, task.View, task.Files[at]))
			}
		})
	}
	wg.Wait()
}

// readOne says what is wrong with a file, if anything is.
func readOne(reader int, source, view, file string) string {
	want, err := os.ReadFile(source + file)
	if err != nil {
		return fmt.Sprintf("%q", err)
	}
	got, err := os.ReadFile(view + file)
	if err != nil || !bytes.Equal(got, want) {
		return fmt.Sprintf("reader %d: %q: %d bytes instead of %d, or other ones: %q", reader, file, len(got), len(want), fmt.Sprint(err))
	}
	return ""
}
