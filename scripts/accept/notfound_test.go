package accept

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vitrine/repo/backend/s3/miniotest"
)

// A load balancer before the bucket has nobody behind it for some seconds, and answers 404 to everything. Who reads in a
// mount waits, no snapshot vanishes, nothing counts as damaged, and all reads well afterwards; commands that change the
// repository by what they find in it wait, too.
func TestNotFoundOfALoadBalancer(t *testing.T) {
	const away = 6 * time.Second
	l := newLab(t)
	miniotest.Setenv(t)
	server := miniotest.Start(t)
	to, err := url.Parse("http://" + server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	var down atomic.Bool
	var refused, looks atomic.Int64 // requests, and those of them that list the snapshots
	proxy := httputil.NewSingleHostReverseProxy(to)
	balancer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			refused.Add(1)
			if strings.HasSuffix(r.URL.Query().Get("prefix"), "snapshots/") {
				looks.Add(1)
			}
			http.NotFound(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(balancer.Close)
	l.repo = "s3:" + balancer.URL + "/bucket"
	l.checked()
	const files, fileBytes = 12, 3 << 20
	source := l.dir + "/source"
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{1})
	contents := make([][]byte, files)
	name := func(dir string, i int) string { return fmt.Sprintf("%s/%d", dir, i) }
	for i := range contents {
		contents[i] = make([]byte, fileBytes)
		random.Read(contents[i])
		write(t, name(source, i), string(contents[i]))
	}
	l.vitrine("init")
	l.vitrine("backup", source)
	l.vitrine("backup", source, "--tag", "second")
	m := l.mount()
	mounted := m.latest(source)
	if _, err := os.ReadFile(name(mounted, 0)); err != nil {
		t.Fatal(err)
	}

	lists := func() int {
		entries, err := os.ReadDir(m.dir + "/snapshots")
		if err != nil {
			t.Error(err)
		}
		return len(entries)
	}
	before := lists()
	packs, index := l.vitrine("list", "packs"), l.vitrine("list", "index")
	down.Store(true)
	began := time.Now()
	answers := make(chan error, files)
	for i := 1; i < files; i++ {
		go func() {
			got, err := os.ReadFile(name(mounted, i))
			if err == nil && !bytes.Equal(got, contents[i]) {
				err = fmt.Errorf("%s reads wrong", name(mounted, i))
			}
			answers <- err
		}()
	}
	repaired := make(chan result, 1)
	go func() { repaired <- l.tryVitrine("repair", "index") }()
	for time.Since(began) < away || looks.Load() < 2 && time.Since(began) < time.Minute {
		if n := lists(); n != before {
			t.Fatalf("snapshots/ has %d names, before it were %d", n, before)
		}
		select {
		case r := <-repaired:
			t.Fatalf("it does not wait: %v", r)
		case <-time.After(100 * time.Millisecond):
		}
	}
	down.Store(false)
	for i := 1; i < files; i++ {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	if refused.Load() < 10 || looks.Load() < 2 {
		t.Errorf("%d requests were answered with 404, of them %d for the list of snapshots: the test shows nothing", refused.Load(), looks.Load())
	}
	if r := <-repaired; r.code != 0 {
		t.Error(r)
	}
	if got := l.vitrine("list", "packs"); got != packs {
		t.Errorf("the packs are %s, before they were %s", got, packs)
	}
	if got := l.vitrine("list", "index"); got != index {
		t.Errorf("repair has changed the index: %s, before it was %s", got, index)
	}
	content, err := os.ReadFile(m.dir + "/.vitrine/status")
	if err != nil {
		t.Fatal(err)
	}
	var status struct {
		Damage *struct{ Total int }
	}
	if err := json.Unmarshal(content, &status); err != nil || status.Damage == nil || status.Damage.Total > 0 {
		t.Errorf("the status tells of damage: %v\n%s", err, content)
	}
	l.same(source, mounted)
}
