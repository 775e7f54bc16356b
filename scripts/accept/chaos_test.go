package accept

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Backup, two mounts with readers, and check, all at once on one repository and one cache;
// each is killed with SIGKILL at a random moment. After every round the repository must check
// clean and the same cache must serve a mount whose tree equals the newest snapshot's source.
func TestKilledAtAnyMoment(t *testing.T) {
	rounds := 5
	if long {
		rounds = 50
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, %d rounds", seed, rounds)
	random := rand.New(rand.NewPCG(seed, 0))

	l := newLab(t).checked()
	l.vitrine("init")
	l.quicken()
	source := l.dir + "/source"
	l.must("cp", "-a", smallTree(t), source)
	// More blobs than an index cache keeps in memory, so that generations are built, and killed.
	if err := os.Mkdir(source+"/many", 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 25_000 {
		write(t, fmt.Sprintf("%s/many/%d", source, i), fmt.Sprint(seed, i))
	}
	l.vitrine("backup", source)

	// How long an undisturbed backup takes is the range in which the moments are drawn.
	start := time.Now()
	l.vitrine("backup", "--force", source)
	span := max(2*time.Since(start), 500*time.Millisecond)
	t.Logf("moments are drawn from %v", span)

	for round := range rounds {
		disturb(t, source, random)
		l.chaos(source, span, random)

		l.vitrine("check") // no unlock: the locks of the dead must not be in the way
		l.vitrine("backup", source)
		m := l.mount()
		if long || round == rounds-1 {
			l.same(source, m.latest(source))
		} else { // one in ten of the many, because 25 000 take most of the time
			l.same(source, m.latest(source), fmt.Sprintf("--exclude=/many/*[!%d]", random.IntN(10)))
		}
		m.stop()
		if t.Failed() {
			t.Fatalf("in round %d of seed %d", round, seed)
		}
	}
	if built, err := filepath.Glob(l.cache + "/vitrine/*/index/gen-*"); err != nil || len(built) == 0 {
		t.Errorf("no generation of the index cache was built below %s: %v", l.cache, err)
	}
	l.vitrine("unlock") // restic's check wants the repository for itself
	l.restic("check", "--read-data")
}

// chaos starts everything and kills everything, each at its own moment within span.
func (l *lab) chaos(source string, span time.Duration, random *rand.Rand) {
	l.t.Helper()
	moment := func() time.Duration { return time.Duration(random.Int64N(int64(span))) }
	// A cold cache now and then, so that kills also meet the making of a cache.
	if random.IntN(3) == 0 {
		if err := os.RemoveAll(l.cache); err != nil {
			l.t.Fatal(err)
		}
	}
	mounts := []*mounted{l.startMount(), l.startMount()}
	others := [][]string{{"backup", source}, {"check", "--read-data"}}

	var wg sync.WaitGroup
	for _, m := range mounts {
		at := moment()
		ctx, cancel := context.WithCancel(l.t.Context())
		wg.Go(func() { readUntil(ctx, m.dir) })
		wg.Go(func() {
			time.Sleep(at)
			m.kill()
			cancel()
		})
	}
	outputs := make([]string, len(others))
	for i, args := range others {
		at := moment()
		command := append(l.vitrineCommand(), args...)
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(l.t.Context(), at) // its end is kill -9
			defer cancel()
			cmd := exec.CommandContext(ctx, command[0], command[1:]...)
			out, err := cmd.CombinedOutput()
			outputs[i] = fmt.Sprintf("%s\n%v", out, err)
		})
	}
	wg.Wait()
	for i, out := range outputs {
		l.sane(others[i][0], out)
	}
	for _, m := range mounts {
		l.sane("mount", m.log.String())
	}
}

// readUntil reads everything below dir, again and again, until ctx ends. Errors do not
// matter: the mount is not there yet, or already dead.
func readUntil(ctx context.Context, dir string) {
	for ctx.Err() == nil {
		tar := exec.CommandContext(ctx, "tar", "-C", dir, "-cf", "-", ".")
		tar.Stdout = io.Discard // through a pipe: GNU tar reads no file when it sees /dev/null
		_ = tar.Run()
		time.Sleep(10 * time.Millisecond)
	}
}

// disturb changes the source a little: a new file, a changed one, a removed one.
func disturb(t *testing.T, source string, random *rand.Rand) {
	t.Helper()
	content := make([]byte, 1<<20+random.IntN(3<<20))
	for i := 0; i < len(content); i += 8 {
		content[i] = byte(random.Uint32())
	}
	dir := filepath.Join(source, "made")
	for _, name := range []string{fmt.Sprintf("new-%d", random.Uint32()), "words"} {
		write(t, filepath.Join(dir, name), string(content))
	}
	var files []string
	err := filepath.WalkDir(source, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(files[random.IntN(len(files))]); err != nil {
		t.Fatal(err)
	}
}
