package accept

import (
	"math/rand/v2"
	"os"
	"os/exec"
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

	name := l.dir + "/log"
	log, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	said := func() string {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		}
		return string(content)
	}
	command := append(l.vitrineCommand(), "-vv", "check", "--no-lock", "--read-data")
	check := exec.CommandContext(t.Context(), command[0], command[1:]...)
	check.Stdout, check.Stderr = log, log
	if err := check.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- check.Wait() }()
	late := time.After(2 * time.Minute)
	for !strings.Contains(said(), "lists it and says that it is not there") {
		select {
		case err := <-done:
			t.Fatalf("it does not wait: %v\n%s", err, clip(said()))
		case <-late:
			t.Fatalf("the cluster denies nothing, so this shows nothing:\n%s", clip(said()))
		case <-time.After(50 * time.Millisecond):
		}
	}
	c.servers[2].Restart(t)
	if err := <-done; err != nil {
		t.Errorf("%v\n%s", err, clip(said()))
	}
	l.sane("check", said())
}
