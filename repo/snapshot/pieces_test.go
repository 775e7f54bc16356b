package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// smallPiece makes small trees come in many pieces.
const smallPiece = 4 << 10

// pieceTrees are canonical trees of more than one piece, with everything that is kept beside the records.
func pieceTrees(t testing.TB, many int) map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	labels := []Xattr{{"security.selinux", []byte("a label")}, {"user.x", []byte("y")}}
	return map[string][]byte{
		"plain":    bigTree(t, many, nil),
		"contents": bigTree(t, many, func(i int, n *Node) { n.Content = append(n.Content, randomID(r), randomID(r)) }),
		"attributes": bigTree(t, many, func(i int, n *Node) {
			if n.Xattrs = labels; i%3 == 0 {
				n.Xattrs = []Xattr{{"user.n", fmt.Append(nil, i)}}
			}
		}),
		"late access times": bigTree(t, many, func(i int, n *Node) {
			if i > many/2 && i%100 < 50 {
				n.AccessTime = n.ModTime.Add(time.Second)
			}
		}),
		"devices and links": bigTree(t, many, func(i int, n *Node) {
			if i%5 == 0 {
				n.Type, n.Device, n.Content = CharDev, uint64(i+1), nil
			} else if i%7 == 0 {
				n.Type, n.LinkTarget, n.Content = Symlink, strings.Repeat("x", i%40+1), nil
			}
		}),
		"names that look like cuts": bigTree(t, many, func(i int, n *Node) {
			n.Name = fmt.Sprintf(`%05d},{"name":"a","type":"file"`, i)
			n.Xattrs = []Xattr{{`},{"name":"`, nil}, {`b","type":"file"`, nil}}
		}),
		"random": randomTree(r, many),
	}
}

func TestReadCompact(t *testing.T) {
	for name, tree := range pieceTrees(t, 500) {
		nodes, err := DecodeTree(tree)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []io.Reader{
			bytes.NewReader(tree), iotest.HalfReader(bytes.NewReader(tree)), iotest.DataErrReader(bytes.NewReader(tree)),
		} {
			c, err := readCompact(r, len(tree), smallPiece, 3)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			checkCompact(t, c, nodes)
		}
		// The size is only a hint.
		for workers, size := range []int{1: 0, 10, 10 * len(tree)} {
			if c, err := readCompact(bytes.NewReader(tree), size, smallPiece, max(workers, 1)); err != nil || c.Len() != len(nodes) {
				t.Errorf("%s, said to be %d bytes: %v", name, size, err)
			}
		}
		if _, err := ReadCompact(bytes.NewReader(tree), len(tree)); err != nil {
			t.Errorf("%s in one piece: %v", name, err)
		}
	}
}

// What is not verified is not returned, however much of it there was.
func TestReadCompactNeedsTheEnd(t *testing.T) {
	tree := bigTree(t, 500, nil)
	bad := errors.New("content hashes to something else")
	for _, at := range []int{0, smallPiece, len(tree) / 2, len(tree)} {
		r := io.MultiReader(bytes.NewReader(tree[:at]), iotest.ErrReader(bad))
		if c, err := readCompact(r, len(tree), smallPiece, 3); c != nil || !errors.Is(err, bad) {
			t.Errorf("error after %d bytes: got a tree %v, error %v", at, c != nil, err)
		}
	}
}

func TestReadCompactRefuses(t *testing.T) {
	tree := string(bigTree(t, 500, nil))
	nodes := strings.TrimSuffix(strings.TrimPrefix(tree, treeHead), treeTail)
	cut := strings.Index(nodes[len(nodes)/2:], `,{"name":`) + len(nodes)/2
	for name, p := range map[string]string{
		"nothing":              "",
		"cut off":              tree[:len(tree)-20],
		"cut off at a node":    treeHead + nodes[:cut],
		"no comma":             treeHead + nodes[:cut] + nodes[cut+1:] + treeTail,
		"two commas":           treeHead + nodes[:cut] + "," + nodes[cut:] + treeTail,
		"ends in the middle":   treeHead + nodes[:cut] + treeTail + nodes[cut+1:] + treeTail,
		"something behind it":  tree + "x",
		"not sorted":           treeHead + nodes[cut+1:] + "," + nodes[:cut] + treeTail,
		"name twice":           treeHead + nodes[:cut] + "," + nodes + treeTail,
		"a node of many bytes": treeHead + nodes + `,{"name":"z","type":"file","user":"` + strings.Repeat("u", smallPiece) + `"}` + treeTail,
	} {
		if c, err := readCompact(strings.NewReader(p), len(p), smallPiece, 3); c != nil || err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// Each piece is in order, but not with the next one: whatever the length of the pieces.
	for n := smallPiece; n < smallPiece+600; n += 7 {
		swapped := treeHead + nodes[cut+1:] + "," + nodes[:cut] + treeTail
		if _, err := readCompact(strings.NewReader(swapped), len(swapped), n, 3); !errors.Is(err, ErrOrder) {
			t.Fatalf("pieces of %d bytes: %v", n, err)
		}
	}
}

// FuzzReadCompact: what is read in pieces is what is read in one go.
func FuzzReadCompact(f *testing.F) {
	for _, tree := range pieceTrees(f, 6) {
		f.Add(tree, uint16(700), uint16(0))
		f.Add(tree, uint16(1500), uint16(900))
	}
	f.Fuzz(func(t *testing.T, tree []byte, piece, from uint16) {
		pieces := max(int(piece), 64)
		c, err := readCompact(bytes.NewReader(tree), int(from), pieces, 1) // with more, the fuzzer takes chance for news
		if err != nil {
			return
		}
		nodes, err := DecodeTree(tree)
		if err != nil {
			t.Fatalf("pieces of %d bytes: accepted what DecodeTree refuses: %v", pieces, err)
		}
		checkCompact(t, c, nodes)
	})
}

func BenchmarkReadCompact(b *testing.B) {
	tree := bigTree(b, 100_000, nil)
	b.SetBytes(int64(len(tree)))
	b.Run("pieces", func(b *testing.B) {
		for b.Loop() {
			if _, err := ReadCompact(bytes.NewReader(tree), len(tree)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one go", func(b *testing.B) {
		for b.Loop() {
			if _, err := ParseCompact(tree); err != nil {
				b.Fatal(err)
			}
		}
	})
}
