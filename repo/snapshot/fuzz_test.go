package snapshot

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

func addTrees(f *testing.F) {
	for name, p := range goldenTrees(f) {
		if len(p) < 1500 { // small seeds are mutated to more effect
			f.Add(p)
		} else if nodes, err := DecodeTree(p); err != nil {
			f.Fatalf("%s: %v", name, err)
		} else {
			var e TreeEncoder
			for _, n := range nodes[:2] {
				if err := e.Add(&n); err != nil {
					f.Fatal(err)
				}
			}
			f.Add(e.Finish())
		}
	}
	r := rand.New(rand.NewPCG(7, 8))
	for range 20 {
		f.Add(randomTree(r, 1))
	}
	f.Add([]byte(`{"nodes":[{"name":"a\u0041","mtime":"2020-01-02T03:04:05.6+07:00","links":1},{"name":"b"}]}`))
	f.Add([]byte(`{"a":[{},1.5e-7],"nodes":[{"x":null,"name":"a\\x01","extended_attributes":[{"name":"\ud83d"}],"generic_attributes":{"b":1}}]}`))
}

// FuzzDecodeTree compares every decoder, and the encoder, with encoding/json.
func FuzzDecodeTree(f *testing.F) {
	addTrees(f)
	f.Fuzz(checkDecoders)
}

// FuzzParseCompact compares the two decoders only, and so goes through many more trees.
func FuzzParseCompact(f *testing.F) {
	addTrees(f)
	f.Fuzz(func(t *testing.T, p []byte) {
		nodes, err := DecodeTree(p)
		c, compactErr := ParseCompact(p)
		if (err == nil) != (compactErr == nil) {
			t.Fatalf("DecodeTree: %v, ParseCompact: %v", err, compactErr)
		}
		if err != nil {
			if err.Error() != compactErr.Error() {
				t.Fatalf("DecodeTree: %v, ParseCompact: %v", err, compactErr)
			}
			return
		}
		checkCompact(t, c, nodes)
		if c.MemoryBytes() <= 0 {
			t.Fatal("takes no memory")
		}
	})
}

// FuzzNode: whatever a file system may hold is written as encoding/json does and read back.
func FuzzNode(f *testing.F) {
	f.Add("name", "target", "user", []byte("value"), int64(0), uint64(1))
	f.Add("\xff<\u2028", "\x80", "\b", []byte{}, int64(-1), uint64(1<<63))
	f.Fuzz(func(t *testing.T, name, target, user string, value []byte, nsec int64, number uint64) {
		r := rand.New(rand.NewPCG(number, uint64(nsec)))
		n := randomNode(r)
		n.Name, n.LinkTarget, n.User, n.Size = name, target, user, number
		n.Xattrs = []Xattr{{"user.x", value}}
		want, err := refEncode(&n)
		if err != nil {
			t.Fatal(err)
		}
		if got := n.AppendJSON(nil); !bytes.Equal(got, want) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
		var e TreeEncoder
		err = e.Add(&n)
		if refused := CheckName(name); err != nil || refused != nil {
			if !errors.Is(err, ErrBadName) || refused == nil {
				t.Fatalf("Add: %v, CheckName: %v", err, refused)
			}
			return
		}
		tree := e.Finish()
		nodes, err := DecodeTree(tree)
		if err != nil {
			t.Fatal(err)
		}
		if got := nodes[0]; got.Name != name || got.LinkTarget != target || got.Size != number || !bytes.Equal(got.Xattrs[0].Value, value) {
			t.Fatalf("%+v came back as %+v", n, got)
		}
		checkDecoders(t, tree)
	})
}

// FuzzDecodeSnapshot: what is accepted is written and read back the same.
func FuzzDecodeSnapshot(f *testing.F) {
	for _, p := range []string{resticSnapshot, resticTagged, fullSnapshot, `{"tree":null}`, "[]"} {
		f.Add([]byte(p))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		s, err := Decode(p)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("not ErrCorrupt: %v", err)
			}
			return
		}
		first, err := s.Encode()
		if err != nil {
			return // a time zone of a day or more is read but not written
		}
		s, err = Decode(first)
		if err != nil {
			t.Fatalf("decode again: %v\n%s", err, first)
		}
		second, err := s.Encode()
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%v\n%s\n%s", err, first, second)
		}
	})
}
