package accept

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"vitrine/repo/backend/rest/resttest"
)

// door stands before a REST server and notes what is asked of it.
type door struct {
	url string // ends in a slash

	mu    sync.Mutex
	asked []string // guarded by mu: method and path
}

func newDoor(t *testing.T, server string) *door {
	to, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{}
	proxy := httputil.NewSingleHostReverseProxy(to)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		d.asked = append(d.asked, r.Method+" "+r.URL.Path)
		d.mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	d.url = s.URL + "/"
	return d
}

// requested is a request for a file of the repository, by its name.
var requested = regexp.MustCompile(`^GET /(data|snapshots|index)/[0-9a-f]{64}$`)

// fetched tells how many files of each directory were asked for since the last call: "data:3 index:1".
func (d *door) fetched() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := make(map[string]int)
	for _, a := range d.asked {
		if m := requested.FindStringSubmatch(a); m != nil {
			n[m[1]]++
		}
	}
	d.asked = nil
	return strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(n), "map["), "]")
}

// Trees, snapshots and index files of a repository on the network are fetched once, whoever walks them how
// often, and damage of what is kept does not show. check reads the repository all the same.
func TestCacheOfARemoteRepository(t *testing.T) {
	l := newLab(t)
	door := newDoor(t, resttest.Serve(t, l.dir+"/served"))
	l.repo = "rest:" + door.url
	l.checked()
	source := l.dir + "/source"
	for i := range 200 {
		dir := fmt.Sprintf("%s/%d/%d", source, i%7, i)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, dir+"/file", strings.Repeat(fmt.Sprint(i), 1000))
	}
	l.vitrine("init")
	l.vitrine("--no-cache", "backup", source)
	l.vitrine("--no-cache", "backup", source, "--tag", "second", "--exclude", "199")

	names := 0
	find := func(options ...string) {
		t.Helper()
		m := l.mount(options...)
		found := strings.Count(l.must("find", m.dir+"/ids", "-ls"), "\n")
		m.stop()
		if names == 0 {
			names = found
		}
		if found != names || found < 800 {
			t.Errorf("find shows %d names, before it were %d", found, names)
		}
	}
	list := func() { l.vitrine("snapshots"); l.vitrine("ls", "latest") }
	for _, step := range []struct {
		what string
		do   func()
		want string
	}{
		{"cold", func() { find() }, "data:2 index:2 snapshots:2"},
		{"again", func() { find() }, ""},
		{"list", list, ""},
		{"damaged", func() { l.spoilCache(); find() }, "data:2 index:2 snapshots:2"},
		{"mended", func() { find() }, ""},
		{"a backup", func() { names = 0; write(t, source+"/new", "new"); l.vitrine("backup", source); find() }, ""},
		{"list it", list, ""},
		{"without", func() { l.vitrine("--cache-size", "0", "snapshots") }, "snapshots:3"},
	} {
		door.fetched()
		step.do()
		// A pack that does not come at once has its readers ask for ranges besides.
		got := door.fetched()
		step.want = strings.Replace(step.want, "data:2", `data:\d+`, 1)
		if !regexp.MustCompile("^" + step.want + "$").MatchString(got) {
			t.Errorf("%s: fetched %q, want %q", step.what, got, step.want)
		}
	}
	l.vitrine("check")
	if got := door.fetched(); !strings.Contains(got, "index:3") || !strings.Contains(got, "snapshots:3") || !strings.Contains(got, "data:") {
		t.Errorf("check fetched %q, want all from the repository", got)
	}
	find("--no-cache")
	if got := door.fetched(); !strings.Contains(got, "index:3 snapshots:3") {
		t.Errorf("a mount with --no-cache fetched %q", got)
	}
}

// spoilCache cuts every file that the cache has of the repository in half.
func (l *lab) spoilCache() {
	l.t.Helper()
	kept, err := filepath.Glob(l.cache + "/vitrine/*/packs/*/*")
	if err != nil || len(kept) == 0 {
		l.t.Fatalf("the cache has %v, %v", kept, err)
	}
	for _, path := range kept {
		st, err := os.Stat(path)
		if err == nil {
			err = os.Truncate(path, st.Size()/2)
		}
		if err != nil {
			l.t.Fatal(err)
		}
	}
}
