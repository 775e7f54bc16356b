package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"vitrine/repo/blob"
)

// bigTree makes a directory of n plain files of one chunk; change may alter them.
func bigTree(t testing.TB, n int, change func(i int, n *Node)) []byte {
	t.Helper()
	at := time.Unix(1600000000, 0).UTC()
	var e TreeEncoder
	for i := range n {
		node := Node{
			Name: fmt.Sprintf("file-%07d.go", i), Type: File, Mode: 0o644, UID: 1000, GID: 1000, User: "user", Group: "group",
			ModTime: at.Add(time.Duration(i) * 1001), ChangeTime: at.Add(time.Duration(i) * 1003), Inode: uint64(i), DeviceID: 27,
			Size: uint64(i), Links: 1, Content: []blob.ID{blob.Hash([]byte{byte(i), byte(i >> 8)})},
		}
		node.AccessTime = node.ModTime
		if change != nil {
			change(i, &node)
		}
		if err := e.Add(&node); err != nil {
			t.Fatal(err)
		}
	}
	return e.Finish()
}

// TestCompactMemory checks both the promise and that MemoryBytes tells the truth.
func TestCompactMemory(t *testing.T) {
	const n = 10_000
	label := []Xattr{{"security.selinux", []byte("unconfined_u:object_r:user_home_t:s0")}}
	for _, test := range []struct {
		name     string
		perEntry int // bytes beside name, target, chunk
		change   func(i int, n *Node)
	}{
		{"plain files", 100, nil},
		{"labels", 100, func(_ int, n *Node) { n.Xattrs = label }},
		{"access times", 116, func(i int, n *Node) { n.AccessTime = n.AccessTime.Add(time.Duration(i)) }},
		{"links", 100, func(_ int, n *Node) {
			n.Type, n.LinkTarget = Symlink, "0123456789abcdef0123456789abcdef"
			n.Content = nil
		}},
		{"directories", 100, func(i int, n *Node) { n.Type, n.Subtree, n.Content = Dir, &n.Content[0], nil }},
		{"devices", 124, func(_ int, n *Node) { n.Type, n.Device = CharDev, 259 }},
		{"own attributes", 240, func(i int, n *Node) { n.Xattrs = []Xattr{{"user.n", fmt.Append(nil, i)}} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			tree := bigTree(t, n, test.change)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			c, err := ParseCompact(tree)
			if err != nil {
				t.Fatal(err)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			real := int(after.HeapAlloc) - int(before.HeapAlloc)
			said := c.MemoryBytes()
			if said < real*85/100-1<<16 || said > real*115/100+1<<16 {
				t.Errorf("MemoryBytes says %d, the heap grew by %d", said, real)
			}
			const text = len("file-0000000.go") + 32 // a chunk, a subtree or a link target
			if got := said/n - text; got > test.perEntry {
				t.Errorf("%d bytes per entry beside its name and chunk, want at most %d", got, test.perEntry)
			}
			runtime.KeepAlive(c)
			checkParsed(t, tree)
		})
	}
}

// TestCompactMixed has every side table begin and end in the middle of a directory.
func TestCompactMixed(t *testing.T) {
	checkDecoders(t, bigTree(t, 130, func(i int, n *Node) {
		if i%50 == 30 {
			n.AccessTime = n.AccessTime.Add(1)
		}
		if i%7 == 3 {
			n.Device = uint64(i) << 33
		}
		if i%11 == 5 {
			n.Links = 1<<32 + uint64(i)
		}
		if i%13 == 1 {
			n.Xattrs = []Xattr{{"a", []byte{byte(i % 3)}}, {"b", []byte{}}}
		}
		if i%17 == 2 {
			n.LinkTarget = strings.Repeat("\xff/", i)
		}
		if i%19 < 2 { // a directory with a content list is odd but must not confuse
			n.Subtree = &blob.ID{byte(i)}
		}
		for range i % 5 {
			n.Content = append(n.Content, blob.ID{byte(i)})
		}
	}))
	checkParsed(t, bigTree(t, 3*maxSharedXattrs, func(i int, n *Node) {
		n.Xattrs = []Xattr{{"user.n", []byte{byte(i), byte(i >> 8)}}}
	}))
}

// checkParsed compares the two decoders.
func checkParsed(t *testing.T, tree []byte) {
	t.Helper()
	c, err := ParseCompact(tree)
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := DecodeTree(tree)
	if err != nil {
		t.Fatal(err)
	}
	checkCompact(t, c, nodes)
}

func TestCompactFind(t *testing.T) {
	c, err := ParseCompact([]byte(`{"nodes":[{"name":"b"},{"name":"bb"},{"name":"\\xff"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		at   int
		ok   bool
	}{
		{"", 0, false}, {"a", 0, false}, {"b", 0, true}, {"ba", 1, false}, {"bb", 1, true}, {"c", 2, false}, {"\xff", 2, true}, {"\xff\xff", 3, false},
	} {
		if at, ok := c.Find(test.name); ok != test.ok || at != test.at {
			t.Errorf("Find(%q) = %d, %v, want %d, %v", test.name, at, ok, test.at, test.ok)
		}
	}
	empty, err := ParseCompact([]byte("{\"nodes\":[]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := empty.Find("a"); ok || empty.Len() != 0 {
		t.Error("something in an empty directory")
	}
	if n := empty.MemoryBytes(); n <= 0 || n > 1000 {
		t.Errorf("an empty directory takes %d bytes", n)
	}
}

// TestCompactDoesNotAmplify: what a hostile tree says about itself must not allocate.
func TestCompactDoesNotAmplify(t *testing.T) {
	tree := []byte(`{"x":[` + strings.Repeat(`{"name":""},`, 1<<16) + `1],"nodes":[]}`)
	for name, parse := range map[string]func() error{
		"DecodeTree":   func() error { _, err := DecodeTree(tree); return err },
		"ParseCompact": func() error { _, err := ParseCompact(tree); return err },
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := parse(); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if grew := after.TotalAlloc - before.TotalAlloc; grew > 4*uint64(len(tree)) {
			t.Errorf("%s of %d bytes allocated %d", name, len(tree), grew)
		}
	}
}

func TestCompactParallel(t *testing.T) {
	c, err := ParseCompact(bigTree(t, 100, nil))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range c.Len() {
				if at, ok := c.Find(c.Name(i)); !ok || at != i || c.Entry(i).Chunks != len(c.Content(i)) {
					t.Errorf("entry %d is not found", i)
				}
			}
		})
	}
	wg.Wait()
}

func TestNodeType(t *testing.T) {
	for typ := File; typ <= Irregular; typ++ {
		if got, err := ParseNodeType(typ.String()); err != nil || got != typ {
			t.Errorf("%v: %v, %v", typ, got, err)
		}
	}
	for _, word := range []string{"", "File", "whiteout"} {
		if _, err := ParseNodeType(word); err == nil {
			t.Errorf("%q is a type", word)
		}
	}
	for _, typ := range []NodeType{0, Irregular + 1, 255} {
		if got, want := typ.String(), fmt.Sprintf("type-%d", uint8(typ)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestDecodeError checks what a program can ask of an error.
func TestDecodeError(t *testing.T) {
	_, err := DecodeTree([]byte(`{"nodes":[{"name":"a"},{"name":"b","uid":x}]}`))
	var e *DecodeError
	if !errors.As(err, &e) || e.OffsetBytes != 41 || e.Index != 1 || e.Name != "b" || !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %#v", err)
	}
}

// BenchmarkTree takes directories of small files, as most are.
func BenchmarkTree(b *testing.B) {
	p := bigTree(b, 2000, nil)
	nodes, err := DecodeTree(p)
	if err != nil {
		b.Fatal(err)
	}
	for _, bench := range []struct {
		name string
		run  func() error
	}{
		{"DecodeTree", func() error { _, err := DecodeTree(p); return err }},
		{"ParseCompact", func() error { _, err := ParseCompact(p); return err }},
		{"encoding-json-decode", func() error {
			var tree struct{ Nodes []refNode }
			return json.Unmarshal(p, &tree)
		}},
		{"TreeEncoder", func() error {
			var e TreeEncoder
			for i := range nodes {
				if err := e.Add(&nodes[i]); err != nil {
					return err
				}
			}
			e.Finish()
			return nil
		}},
		{"encoding-json-encode", func() error {
			for i := range nodes {
				if _, err := refEncode(&nodes[i]); err != nil {
					return err
				}
			}
			return nil
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				if err := bench.run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestCompactNextDir(t *testing.T) {
	sub := blob.Hash([]byte("subtree"))
	kind := map[int]NodeType{2: Dir, 3: Symlink, 4: Dir, 6: Dir}
	c, err := ParseCompact(bigTree(t, 7, func(i int, n *Node) {
		if typ, ok := kind[i]; ok {
			n.Type, n.Content = typ, nil
		}
		if i == 2 || i == 6 {
			n.Subtree = &sub
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	for from, want := range []int{2, 2, 2, 4, 4, 6, 6, 7} {
		i, id := c.NextDir(from)
		if i != want || (id == sub) != (want == 2 || want == 6) {
			t.Errorf("from %d: entry %d, want %d; subtree %v", from, i, want, id)
		}
	}
}
