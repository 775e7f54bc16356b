package accept

import (
	"encoding/json"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"vitrine/repo/backend/s3/miniotest"
)

// newCluster makes a lab whose repository is in a MinIO of four servers, and the servers.
func newCluster(t *testing.T) (*lab, []*miniotest.Server) {
	t.Helper()
	miniotest.Setenv(t)
	l := newLab(t)
	servers := miniotest.StartCluster(t, l.dir, 4)
	l.repo = servers[0].Location("cluster/repo")
	return l, servers
}

// One of four servers is away in the middle of a backup, another one in the middle of a copy from the
// mount. The client talks to the first, which stays.
func TestMinIOCluster(t *testing.T) {
	l, servers := newCluster(t)
	source := fewFiles(t)
	l.vitrine("init")

	command := append(l.vitrineCommand(), "--limit-upload", "5000", "backup", "--pack-size", "4", source)
	backup := exec.Command(command[0], command[1:]...)
	stopped := make(chan time.Time)
	go func() {
		time.Sleep(1500 * time.Millisecond)
		servers[1].Stop()
		stopped <- time.Now()
	}()
	r := l.try(backup)
	end := time.Now()
	if end.Before(<-stopped) {
		t.Error("the backup ended before a server was stopped")
	}
	if r.code != 0 {
		t.Fatalf("with one server of four away: %v", r)
	}
	l.vitrine("check", "--read-data")
	servers[1].Restart(t)

	m := l.mount("--limit-download", "4096")
	copies := startReaders(t, source, m.latest(source), 4)
	<-copies.begun
	servers[2].Stop()
	if copies.left.Load() < 4 {
		t.Error("everything was read before the server was stopped")
	}
	copies.wg.Wait()
	l.same(source, m.latest(source))
	m.stop()
	l.vitrine("check", "--read-data")
	servers[2].Restart(t)
	l.restic("check")
}

// Two hosts back up into a cluster at the same time and have most of their data in common.
func TestMinIOClusterShared(t *testing.T) {
	if !long {
		twoHosts(t, farS3Lab(t)) // a cluster takes five seconds more to start
		return
	}
	l, _ := newCluster(t)
	twoHosts(t, l)
}

func farS3Lab(t *testing.T) *lab {
	t.Helper()
	miniotest.Setenv(t)
	l := newLab(t)
	l.repo = miniotest.Start(t).Location("cluster/repo")
	return l
}

func twoHosts(t *testing.T, l *lab) {
	t.Helper()
	l.vitrine("init")
	// The same real files, beside something of their own.
	hosts := []string{"a", "b"}
	for _, host := range hosts {
		dir := l.dir + "/" + host
		l.must("cp", "-a", fewFiles(t), dir)
		write(t, dir+"/own", "of "+host)
	}
	var wg sync.WaitGroup
	results := make([]result, len(hosts))
	for i, host := range hosts {
		own := *l
		own.cache = l.dir + "/cache-" + host
		wg.Go(func() { results[i] = own.tryVitrine("--json", "backup", "--host", host, l.dir+"/"+host) })
	}
	wg.Wait()
	added := 0
	for _, r := range results {
		if r.code != 0 {
			t.Fatal(r)
		}
		added += parseSummary(t, r.stdout).DataAdded
	}
	// How much one of them is alone: in a repository of its own on the disk.
	single := newLab(t)
	single.vitrine("init")
	alone := parseSummary(t, single.vitrine("--json", "backup", l.dir+"/a")).DataAdded
	t.Logf("two hosts at once added %.1f MB, one alone %.1f MB: factor %.2f", float64(added)/1e6, float64(alone)/1e6, float64(added)/float64(alone))

	l.vitrine("check", "--read-data")
	var snapshots []struct{ Hostname string }
	if err := json.Unmarshal([]byte(l.vitrine("snapshots", "--json")), &snapshots); err != nil || len(snapshots) != len(hosts) {
		t.Errorf("%d snapshots, %v", len(snapshots), err)
	}
	m := l.mount()
	for _, host := range hosts {
		l.same(l.dir+"/"+host, m.dir+"/hosts/"+host+"/latest"+l.dir+"/"+host)
	}
	m.stop()

	// What both had is not stored again: a third host adds nothing but its own file.
	if err := os.Rename(l.dir+"/a", l.dir+"/c"); err != nil {
		t.Fatal(err)
	}
	write(t, l.dir+"/c/own", "of c")
	if third := parseSummary(t, l.vitrine("--json", "backup", "--host", "c", l.dir+"/c")); third.DataBlobs != 1 {
		t.Errorf("a third host adds %s, want its own file only", third.describe())
	}
}
