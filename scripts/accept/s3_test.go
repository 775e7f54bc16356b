package accept

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"vitrine/repo/backend/s3/miniotest"
)

// A repository in a bucket, as the README tells it: everything comes from the environment, the
// bucket is not there yet, and restic works on the same repository.
func TestS3Tutorial(t *testing.T) {
	l := newLab(t).plain()
	server := miniotest.Start(t)
	miniotest.Setenv(t)
	const password = "3 weird tricks to gain Ops attention..."
	l.repo = server.Location("backup")
	write(t, l.password, password+"\n") // for the mounts; everything else takes the environment
	t.Setenv("RESTIC_REPOSITORY", l.repo)
	t.Setenv("RESTIC_PASSWORD", password)
	t.Setenv("RESTIC_CACHE_DIR", l.cache)
	docs, home := l.dir+"/docs", realTree(t)
	if err := os.Mkdir(docs, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, docs+"/minutes.txt", strings.Repeat("nothing was decided\n", 10_000))
	write(t, docs+"/plan.txt", "none")

	const tag = "complete backup CW16"
	l.must(plain, "init")
	l.must(plain, "backup", "--tag", tag, docs)
	l.must(plain, "backup", "--tag", tag, home)

	table := l.must(plain, "snapshots")
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{docs, home} {
		row := regexp.MustCompile(`(?m)^[0-9a-f]{8} +20\d\d-\d\d-\d\d \d\d:\d\d:\d\d +` +
			regexp.QuoteMeta(host) + ` +` + regexp.QuoteMeta(tag) + ` +` + regexp.QuoteMeta(dir) + `\b`)
		if !row.MatchString(table) {
			t.Errorf("there is no line of %s in:\n%s", dir, table)
		}
	}
	if r := l.try(exec.Command(plain, "init")); r.code == 0 {
		t.Errorf("a second init: %v", r)
	}

	// The mount brings both back.
	m := l.mount()
	for _, dir := range []string{docs, home} {
		views, err := filepath.Glob(m.dir + "/ids/[0-9a-f]*" + dir)
		if err != nil || len(views) != 1 {
			t.Fatalf("snapshots with %s: %q, %v; want one", dir, views, err)
		}
		to := l.dir + "/back"
		l.must("cp", "-a", views[0], to)
		l.same(dir, to)
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
	}
	m.stop()

	// restic checks what vitrine wrote, and vitrine reads what restic adds.
	l.must("restic", "check", "--read-data")
	write(t, docs+"/plan.txt", "still none")
	l.must("restic", "backup", docs)
	l.must(plain, "check", "--read-data")
	m = l.mount()
	l.same(docs, m.latest(docs))
	m.stop()

	// Whoever has other keys gets nothing, and the message has no secret.
	t.Setenv("AWS_SECRET_ACCESS_KEY", "geheim-und-falsch")
	r := l.try(exec.Command(plain, "snapshots"))
	if r.code == 0 || !strings.Contains(r.stderr, "SignatureDoesNotMatch") || !strings.Contains(r.stderr, "AWS_SECRET_ACCESS_KEY") {
		t.Errorf("with a wrong key: %v", r)
	}
	if strings.Contains(r.stdout+r.stderr, "geheim") {
		t.Errorf("the secret is printed: %v", r)
	}
}
