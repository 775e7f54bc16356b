package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo"
	"vitrine/repo/backend/local"
	"vitrine/repo/blob"
	"vitrine/repo/chunker"
	"vitrine/repo/repotest"
	"vitrine/repo/snapshot"
	"vitrine/repo/source/sourcetest"
)

// scratch returns a directory on tmpfs, which has every attribute and time that the tests need.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "vitrine-archive-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// resticRepo is a local repository that restic and this program both write to.
type resticRepo struct {
	t     testing.TB
	dir   string
	stdin string // of restic
}

// initRestic makes a repository with a key that costs neither program time to derive. Those of
// one test process share a polynomial, so that equal sources have equal chunks.
func initRestic(t testing.TB, version uint) *resticRepo {
	t.Helper()
	rr := &resticRepo{t: t, dir: filepath.Join(scratch(t), "repo")}
	be, err := local.Create(rr.dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = repo.Init(t.Context(), be, repo.InitOptions{
		Version: version, Password: []byte(repotest.Password), Polynomial: testPolynomial(), KDF: repotest.KDF,
	})
	if err := errors.Join(err, be.Close()); err != nil {
		t.Fatal(err)
	}
	return rr
}

var testPolynomial = sync.OnceValue(func() chunker.Pol {
	pol, err := chunker.RandomPol()
	if err != nil {
		panic(err)
	}
	return pol
})

// run runs restic in the working directory and returns what it prints. Without restic the test
// fails: agreeing with it is what is tested.
func (rr *resticRepo) run(dir string, args ...string) string {
	rr.t.Helper()
	cmd := exec.Command("restic", append([]string{"-r", rr.dir, "--no-cache"}, args...)...)
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader(rr.stdin)
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+repotest.Password)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		rr.t.Fatalf("restic %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// backup lets restic back up and returns its summary and the snapshot.
func (rr *resticRepo) backup(dir string, args ...string) (resticSummary, *snapshot.Snapshot) {
	rr.t.Helper()
	out := strings.TrimSpace(rr.run(dir, append([]string{"backup", "--json"}, args...)...))
	var s resticSummary
	if err := json.Unmarshal([]byte(out[strings.LastIndexByte(out, '\n')+1:]), &s); err != nil {
		rr.t.Fatalf("summary of restic: %v in\n%s", err, out)
	}
	var sn snapshot.Snapshot
	if err := json.Unmarshal([]byte(rr.run("", "cat", "snapshot", s.SnapshotID)), &sn); err != nil {
		rr.t.Fatal(err)
	}
	var err error
	if sn.ID, err = blob.ParseID(rr.fullID(s.SnapshotID)); err != nil {
		rr.t.Fatal(err)
	}
	return s, &sn
}

func (rr *resticRepo) fullID(short string) string {
	rr.t.Helper()
	names, err := filepath.Glob(filepath.Join(rr.dir, "snapshots", short+"*"))
	if err != nil || len(names) != 1 {
		rr.t.Fatalf("snapshot %s: %v %v", short, names, err)
	}
	return filepath.Base(names[0])
}

type resticSummary struct {
	SnapshotID string `json:"snapshot_id"`
	snapshot.Summary
}

// open opens the repository for this program, with a fresh index.
func (rr *resticRepo) open() *repo.Repository {
	rr.t.Helper()
	be, err := local.Open(rr.dir)
	if err != nil {
		rr.t.Fatal(err)
	}
	return repotest.Open(rr.t, be)
}

// ours backs up with this program.
func ours(t testing.TB, r *repo.Repository, o Options) Result {
	t.Helper()
	if o.Reporter == nil {
		o.Reporter = &recorder{t: t}
	}
	res, err := Run(t.Context(), r, o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// TestSameTreesAsRestic backs up the same sources with both programs into one repository. Whoever
// comes second finds everything there: not a blob is new and the root trees are the same. The time zone is that of a
// process, so each has one of its own.
func TestSameTreesAsRestic(t *testing.T) {
	const zoneOfChild = "VITRINE_TEST_ZONE"
	zone := os.Getenv(zoneOfChild)
	if zone == "" {
		exe, err := os.Executable()
		check(t, err)
		for _, zone := range []string{"UTC", "America/St_Johns"} { // the other one has half hours and summer time
			t.Run(filepath.Base(zone), func(t *testing.T) {
				child := exec.CommandContext(t.Context(), exe, "-test.run=^TestSameTreesAsRestic$", "-test.v", "-test.timeout=5m")
				child.Env = append(os.Environ(), "TZ="+zone, zoneOfChild+"="+zone)
				out, err := child.CombinedOutput()
				if err != nil || !strings.Contains(string(out), "--- PASS: TestSameTreesAsRestic/v2 ") {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
		return
	}
	if time.Local.String() != zone {
		t.Fatalf("the time zone is %v, want %s", time.Local, zone)
	}
	dir := scratch(t)
	zoo := filepath.Join(dir, "zoo")
	other := filepath.Join(dir, "other", "zoo")
	for _, d := range []string{zoo, other} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sourcetest.MakeZoo(t, zoo)
	sourcetest.AddSocket(t, zoo)
	if err := os.WriteFile(filepath.Join(other, "file"), []byte("of the other zoo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, tc := range []struct {
		name    string
		version uint
		cwd     string
		targets []string
	}{
		{"v1", 1, dir, []string{"zoo"}},
		{"v2", 2, dir, []string{"zoo"}},
		{"dot", 2, zoo, []string{"."}},
		{"dot dot", 2, zoo, []string{".."}},
		{"several", 2, dir, []string{"zoo/names", "./zoo/files/text", "zoo/links", "zoo/links/odd", "zoo/types/fifo"}},
		{"suffix", 2, filepath.Join(dir, "other"), []string{"zoo", "../zoo/attributes", "../zoo/times"}},
	} {
		if zone != "UTC" && tc.name != "v2" {
			continue
		}
		t.Run(tc.name, func(t *testing.T) {
			t.Chdir(tc.cwd)

			first := initRestic(t, tc.version)
			theirs, sn := first.backup(tc.cwd, tc.targets...)
			res := ours(t, first.open(), Options{Targets: tc.targets, Force: true})
			compareTrees(t, first.open(), *sn.Tree, *res.Snapshot.Tree)
			if s := res.Summary; s.DataBlobs != 0 || s.TreeBlobs != 0 || s.DataAdded != 0 || s.DataAddedPacked != 0 {
				t.Errorf("restic was first, and yet new: %+v", s)
			}
			if diff := cmp.Diff(sn.Paths, res.Snapshot.Paths); diff != "" {
				t.Errorf("paths (-restic +ours):\n%s", diff)
			}

			second := initRestic(t, tc.version)
			res = ours(t, second.open(), Options{Targets: tc.targets})
			again, sn := second.backup(tc.cwd, append([]string{"--force"}, tc.targets...)...)
			compareTrees(t, second.open(), *sn.Tree, *res.Snapshot.Tree)
			if again.DataBlobs != 0 || again.TreeBlobs != 0 {
				t.Errorf("we were first, and yet new to restic: %+v", again)
			}
			compareSummaries(t, theirs.Summary, res.Summary)
			if i < 2 { // once for each version
				first.run("", "check", "--read-data")
				second.run("", "check", "--read-data")
			}
		})
	}
}

// TestAbsoluteLikeRestic backs up absolute paths: the directories above them have their own metadata and
// only the selected children.
func TestAbsoluteLikeRestic(t *testing.T) {
	dir := tree(t, map[string]string{"a/f": "1", "a/g": "2", "b/c/d": "3", "not this": ""})
	rr := initRestic(t, 2)
	targets := []string{dir + "/a/f", dir + "//b/../b"}
	_, sn := rr.backup("", targets...)
	res := ours(t, rr.open(), Options{Targets: targets})
	r := rr.open()
	for at := dir; at != "/"; at = filepath.Dir(at) {
		theirs, err := r.FindNode(t.Context(), *sn.Tree, at)
		check(t, err)
		our, err := r.FindNode(t.Context(), *res.Snapshot.Tree, at)
		check(t, err)
		if at != dir {
			// Other programs make entries here, and change times and trees by it.
			our.Subtree, our.ModTime, our.AccessTime, our.ChangeTime = theirs.Subtree, theirs.ModTime, theirs.AccessTime, theirs.ChangeTime
		}
		if diff := cmp.Diff(string(theirs.AppendJSON(nil)), string(our.AppendJSON(nil))); diff != "" {
			t.Errorf("%s (-restic +ours):\n%s", at, diff)
		}
	}
	if diff := cmp.Diff(sn.Paths, res.Snapshot.Paths); diff != "" {
		t.Errorf("paths (-restic +ours):\n%s", diff)
	}
	top, err := r.LoadTree(t.Context(), *res.Snapshot.Tree)
	check(t, err)
	if len(top) != 1 || "/"+top[0].Name != dir[:strings.IndexByte(dir[1:], '/')+1] {
		t.Errorf("root tree %+v", top)
	}
}

// compareTrees tells where two trees differ.
func compareTrees(t *testing.T, r *repo.Repository, theirs, our blob.ID) {
	t.Helper()
	if theirs == our {
		return
	}
	t.Errorf("root tree %s of restic, %s of ours", theirs.Short(), our.Short())
	compareDirs(t, r, "", theirs, our)
}

func compareDirs(t *testing.T, r *repo.Repository, dir string, theirs, our blob.ID) {
	t.Helper()
	var nodes [2][]snapshot.Node
	for i, id := range []blob.ID{theirs, our} {
		var err error
		if nodes[i], err = r.LoadTree(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	for i := range min(len(nodes[0]), len(nodes[1])) {
		a, b := nodes[0][i], nodes[1][i]
		sa, sb := a.Subtree, b.Subtree
		a.Subtree, b.Subtree = nil, nil
		if diff := cmp.Diff(string(a.AppendJSON(nil)), string(b.AppendJSON(nil))); diff != "" {
			t.Errorf("%s/%q (-restic +ours):\n%s", dir, a.Name, diff)
		}
		if sa != nil && sb != nil && *sa != *sb {
			compareDirs(t, r, dir+"/"+a.Name, *sa, *sb)
		}
	}
	if len(nodes[0]) != len(nodes[1]) {
		t.Errorf("%q: restic has %d entries, we have %d", dir, len(nodes[0]), len(nodes[1]))
	}
}

// compareSummaries compares what restic 0.14 tells of a backup.
func compareSummaries(t *testing.T, theirs, our snapshot.Summary) {
	t.Helper()
	our.BackupStart, our.BackupEnd, our.DataAddedPacked = theirs.BackupStart, theirs.BackupEnd, theirs.DataAddedPacked
	if diff := cmp.Diff(theirs, our); diff != "" {
		t.Errorf("summary (-restic +ours):\n%s", diff)
	}
}

// recorder notes what is reported.
type recorder struct {
	t      testing.TB
	expect bool // errors are no failure of the test

	mu      sync.Mutex // guards the fields below
	errors  []string
	items   map[string]Item
	guess   Total // from the parent
	scanned Total
	done    bool
	started map[string]bool
	read    int
}

func (r *recorder) Scanned(s Total, done bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		r.t.Error("Scanned after it was done")
	}
	if s.Guessed {
		if done || r.scanned != (Total{}) {
			r.t.Error("a guess is the first that is told, and not the last")
		}
		r.guess = s
	}
	r.scanned, r.done = s, done
}

func (r *recorder) Started(dir, name string, _ uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started == nil {
		r.started = make(map[string]bool)
	}
	r.started[join(dir, name)] = true
}

func (r *recorder) Read(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read += n
}

func (r *recorder) Done(it Item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.items == nil {
		r.items = make(map[string]Item)
	}
	p := join(it.Dir, it.Name)
	if _, twice := r.items[p]; twice {
		r.t.Errorf("%q is done twice", p)
	}
	r.items[p] = it
	delete(r.started, p)
}

func (r *recorder) Error(path string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.expect {
		r.t.Errorf("reported: %s: %v", path, err)
	}
	if path != "" && !filepath.IsAbs(path) {
		r.t.Errorf("error of %q: not an absolute path", path)
	}
	delete(r.started, path)
	r.errors = append(r.errors, err.Error())
}
