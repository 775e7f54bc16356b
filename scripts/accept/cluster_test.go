package accept

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vitrine/repo/backend/s3/miniotest"
	"vitrine/scripts/internal/netnstest"
)

// cluster is a MinIO of four servers, each on a host of its own, with a load balancer before them on this machine, and
// two more hosts for clients. All hosts are network namespaces.
type cluster struct {
	servers []*miniotest.Server
	front   *front
	clients []*netnstest.Host
}

// newCluster makes a lab with a cluster.
func newCluster(t *testing.T) (*lab, *cluster) {
	t.Helper()
	miniotest.Setenv(t)
	l := newLab(t)
	network := netnstest.New(t)
	var hosts []miniotest.Host
	var addrs []string
	for range 4 {
		h := network.Host()
		hosts = append(hosts, miniotest.Host{Addr: h.Addr + ":9000", Command: h.Command})
		addrs = append(addrs, h.Addr+":9000")
	}
	c := &cluster{servers: miniotest.StartCluster(t, l.dir, hosts...), clients: []*netnstest.Host{network.Host(), network.Host()}}
	c.front = newFront(t, network.Addr(), addrs...)
	l.repo = c.location("repo")
	return l, c
}

// location is that of a repository, as clients see it: in the long form behind the balancer, in the short one on
// the first server, which is not killed then.
func (c *cluster) location(name string) string {
	if !long {
		return c.servers[0].Location("cluster/" + name)
	}
	return "s3:http://" + c.front.addr + "/cluster/" + name
}

// kill kills a server, but not that one. In the long form it is one with open requests.
func (c *cluster) kill(t *testing.T, when string, not *miniotest.Server) *miniotest.Server {
	t.Helper()
	if !long {
		server := c.servers[1]
		if server == not {
			server = c.servers[2]
		}
		server.Stop()
		return server
	}
	at, requests := c.front.busiest(t, slices.Index(c.servers, not))
	c.servers[at].Stop()
	t.Logf("%s: server %d killed with %d requests open", when, at, requests)
	return c.servers[at]
}

// heal reads the repository, by which MinIO notices what a server lacks that was away, until all have the same objects.
func (c *cluster) heal(t *testing.T, l *lab) {
	t.Helper()
	var counts []int
	for start := time.Now(); time.Since(start) < time.Minute; time.Sleep(200 * time.Millisecond) {
		l.vitrine("check", "--read-data")
		counts = nil
		for i := range c.servers {
			objects, err := filepath.Glob(fmt.Sprintf("%s/drive%d/cluster/repo/data/*/*/xl.meta", l.dir, i))
			if err != nil {
				t.Fatal(err)
			}
			counts = append(counts, len(objects))
		}
		if counts[0] > 0 && len(slices.Compact(slices.Clone(counts))) == 1 {
			t.Logf("healed after %v", time.Since(start).Round(100*time.Millisecond))
			return
		}
	}
	t.Fatalf("after a minute the servers have %v packs", counts)
}

// Two hosts back up into a cluster at the same time. Then one of its four servers is killed in the middle of a backup,
// and another one in the middle of a copy from the mount.
func TestMinIOCluster(t *testing.T) {
	l, c := newCluster(t)
	shared := *l
	shared.repo = c.location("shared")
	twoHosts(t, &shared, c.clients)

	source := fewFiles(t)
	l.vitrine("init")

	command := append(l.vitrineCommand(), "--limit-upload", "5000", "backup", "--pack-size", "4", source)
	killed := make(chan *miniotest.Server)
	go func() {
		time.Sleep(1500 * time.Millisecond)
		killed <- c.kill(t, "backup", nil)
	}()
	r := l.try(exec.Command(command[0], command[1:]...))
	end := time.Now()
	server := <-killed
	if late := time.Since(end); late > 100*time.Millisecond {
		t.Errorf("the backup ended %v before a server was killed", late)
	}
	if r.code != 0 {
		t.Fatalf("with one server of four away: %v", r)
	}
	l.vitrine("check", "--read-data")
	server.Restart(t)
	if long {
		c.heal(t, l)
	}

	m := l.mount("--limit-download", "4096")
	copies := startReaders(t, source, m, 4)
	<-copies.begun
	server = c.kill(t, "copy from the mount", server)
	if copies.left.Load() < 4 {
		t.Error("everything was read before the server was killed")
	}
	copies.wait(t)
	l.same(source, m.latest(source))
	m.stop()
	l.vitrine("check", "--read-data")
	server.Restart(t)
	l.restic("check")
}

// sharedBytes is what writeShared writes: enough for two hosts to meet in the middle of it.
func sharedBytes() int {
	if long {
		return 150 << 20
	}
	return 80 << 20
}

// writeShared fills a directory with what cannot be compressed, each time the same.
func writeShared(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	noise := rand.NewChaCha8([32]byte{1})
	content := make([]byte, 500<<10)
	for i := range sharedBytes() / len(content) {
		noise.Read(content)
		write(t, fmt.Sprintf("%s/%03d", dir, i), string(content))
	}
}

// sharedFlags make a backup of two hosts slow enough that they notice each other, with packs that are small beside
// what they share.
var sharedFlags = []string{"--limit-upload", "3000", "--pack-size", "4", "-v"}

// checkSharedFactor fails when two hosts at once added much more than one of them alone. What they store twice is
// some packs and seconds, so the factor tends to 1 as there is more to store: to 2 if they did not share.
func checkSharedFactor(t *testing.T, added, alone int) {
	t.Helper()
	most := 1.75
	if long {
		most = 1.35
	}
	factor := float64(added) / float64(alone)
	t.Logf("two hosts at once added %.1f MB, one alone %.1f MB: factor %.2f", float64(added)/1e6, float64(alone)/1e6, factor)
	if factor > most {
		t.Errorf("factor %.2f, want %.2f at most", factor, most)
	}
}

// twoHosts lets two hosts back up at the same time that have most of their data in common.
func twoHosts(t *testing.T, l *lab, clients []*netnstest.Host) {
	t.Helper()
	l.vitrine("init")
	// The same real files, beside something of their own.
	hosts := []string{"a", "b"}
	for _, host := range hosts {
		dir := l.dir + "/" + host
		l.must("cp", "-a", fewFiles(t), dir)
		writeShared(t, dir+"/shared")
		write(t, dir+"/own", "of "+host)
	}
	var wg sync.WaitGroup
	results := make([]result, len(hosts))
	for i, host := range hosts {
		own := *l
		own.cache = l.dir + "/cache-" + host
		wg.Go(func() {
			argv := append(own.vitrineCommand(), "--json", "backup", "--host", host, l.dir+"/"+host)
			argv = clients[i].Command(append(argv, sharedFlags...)...)
			results[i] = own.try(exec.Command(argv[0], argv[1:]...))
		})
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
	for i, r := range results {
		lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
		t.Logf("host %s said:\n%s\n%s", hosts[i], r.stderr, lines[len(lines)-1])
	}
	checkSharedFactor(t, added, alone)

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
