package accept

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

// A cluster of four lists packs and says NoSuchKey of them: one server is dead, one missed them while it was away, and one is
// dead at first and then taken for dead for some time after it is back. Who reads the packs waits until they are there.
func TestMinIOClusterDenies(t *testing.T) {
	l, c := newCluster(t)
	l.repo = c.servers[0].Location("cluster/repo")
	l.vitrine("init")
	content := make([]byte, 3<<20) // small objects are in the metadata
	rand.NewChaCha8([32]byte{1}).Read(content)
	write(t, l.dir+"/file", string(content))
	l.vitrine("backup", l.dir+"/file")
	if err := os.RemoveAll(l.dir + "/drive1/cluster/repo/data"); err != nil {
		t.Fatal(err)
	}
	c.servers[2].Stop()
	c.servers[3].Stop()

	done := make(chan result, 1)
	go func() { done <- l.tryVitrine("-vv", "check", "--no-lock", "--read-data") }()
	select {
	case r := <-done:
		t.Fatalf("it does not wait: %v", r)
	case <-time.After(5 * time.Second):
	}
	c.servers[2].Restart(t)
	r := <-done
	if r.code != 0 {
		t.Error(r)
	}
	if !strings.Contains(r.stderr, "lists it and says that it is not there") {
		t.Errorf("the cluster denies nothing, so this shows nothing: %v", r)
	}
}
