package snapshot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"
	"unicode/utf8"

	"vitrine/repo/blob"

	"github.com/google/go-cmp/cmp"
)

// refNode is the definition of a node's JSON for encoding/json. The fast codec is measured
// by it.
type refNode struct {
	Name          string                     `json:"name"`
	Type          string                     `json:"type"`
	Mode          uint32                     `json:"mode,omitempty"`
	MTime         time.Time                  `json:"mtime"`
	ATime         time.Time                  `json:"atime"`
	CTime         time.Time                  `json:"ctime"`
	UID           uint32                     `json:"uid"`
	GID           uint32                     `json:"gid"`
	User          string                     `json:"user,omitempty"`
	Group         string                     `json:"group,omitempty"`
	Inode         uint64                     `json:"inode,omitempty"`
	DeviceID      uint64                     `json:"device_id,omitempty"`
	Size          uint64                     `json:"size,omitempty"`
	Links         uint64                     `json:"links,omitempty"`
	LinkTarget    string                     `json:"linktarget,omitempty"`
	LinkTargetRaw []byte                     `json:"linktarget_raw,omitempty"`
	Xattrs        []refXattr                 `json:"extended_attributes,omitempty"`
	Generic       map[string]json.RawMessage `json:"generic_attributes,omitempty"`
	Device        uint64                     `json:"device,omitempty"`
	Content       []blob.ID                  `json:"content"`
	Subtree       *blob.ID                   `json:"subtree,omitempty"`
	Error         string                     `json:"error,omitempty"`
}

type refXattr struct {
	Name  string `json:"name"`
	Value []byte `json:"value"`
}

func refTime(t time.Time) time.Time {
	if y := t.Year(); y < 0 {
		return t.AddDate(-y, 0, 0)
	} else if y > 9999 {
		return t.AddDate(9999-y, 0, 0)
	}
	return t
}

func refEncode(n *Node) ([]byte, error) {
	name := strconv.Quote(n.Name)
	r := refNode{
		Name: name[1 : len(name)-1], Type: n.Type.String(), Mode: uint32(n.Mode),
		MTime: refTime(n.ModTime), ATime: refTime(n.AccessTime), CTime: refTime(n.ChangeTime),
		UID: n.UID, GID: n.GID, User: n.User, Group: n.Group, Inode: n.Inode, DeviceID: n.DeviceID,
		Size: n.Size, Links: n.Links, LinkTarget: n.LinkTarget, Generic: n.GenericAttributes,
		Device: n.Device, Content: n.Content, Subtree: n.Subtree, Error: n.Error,
	}
	if !utf8.ValidString(n.LinkTarget) {
		r.LinkTargetRaw = []byte(n.LinkTarget)
	}
	for _, x := range n.Xattrs {
		r.Xattrs = append(r.Xattrs, refXattr{x.Name, append([]byte{}, x.Value...)})
	}
	return json.Marshal(r)
}

// refMember is a member of a JSON object.
type refMember struct {
	key   string
	value json.RawMessage
}

// refMembers splits an object; encoding/json alone would hide repeated keys and ignore case.
func refMembers(p []byte) ([]refMember, error) {
	dec := json.NewDecoder(bytes.NewReader(p))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, errors.New("not an object")
	}
	var list []refMember
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var m refMember
		m.key = key.(string)
		if err := dec.Decode(&m.value); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// refObject decodes the members of an object that into has a pointer for; null leaves it
// alone, a key that comes twice is an error.
func refObject(p []byte, into map[string]any) error {
	members, err := refMembers(p)
	if err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, m := range members {
		target, known := into[m.key]
		if !known {
			continue
		}
		if seen[m.key] {
			return fmt.Errorf("%q twice", m.key)
		}
		seen[m.key] = true
		if string(m.value) == "null" {
			continue
		}
		switch target := target.(type) {
		case func(json.RawMessage) error:
			err = target(m.value)
		default:
			err = json.Unmarshal(m.value, target)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", m.key, err)
		}
	}
	return nil
}

var refTimeForm = regexp.MustCompile(`^"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"$`)

func refTimeInto(t *time.Time) func(json.RawMessage) error {
	return func(p json.RawMessage) error {
		var text string
		if err := json.Unmarshal(p, &text); err != nil {
			return err
		}
		if p = fmt.Appendf(nil, `"%s"`, text); !refTimeForm.Match(p) || len(text) > maxStampLen {
			return errors.New("not RFC 3339")
		}
		return t.UnmarshalJSON(p)
	}
}

func refID(p json.RawMessage) (blob.ID, error) {
	var text *string
	if err := json.Unmarshal(p, &text); err != nil || text == nil {
		return blob.ID{}, errors.New("not an id")
	}
	return blob.ParseID(*text)
}

func refDecodeNode(p []byte) (n Node, err error) {
	var name, typ string
	var mode uint32
	var raw []byte
	err = refObject(p, map[string]any{
		"name": &name, "type": &typ, "mode": &mode, "uid": &n.UID, "gid": &n.GID, "user": &n.User, "group": &n.Group,
		"mtime": refTimeInto(&n.ModTime), "atime": refTimeInto(&n.AccessTime), "ctime": refTimeInto(&n.ChangeTime),
		"inode": &n.Inode, "device_id": &n.DeviceID, "size": &n.Size, "links": &n.Links, "device": &n.Device,
		"linktarget": &n.LinkTarget, "generic_attributes": &n.GenericAttributes, "error": &n.Error,
		"linktarget_raw": func(p json.RawMessage) error {
			raw = []byte{}
			return refBase64(p, &raw)
		},
		"extended_attributes": func(p json.RawMessage) error {
			var list []json.RawMessage
			if err := json.Unmarshal(p, &list); err != nil {
				return err
			}
			for _, p := range list {
				x := Xattr{Value: []byte{}}
				if err := refObject(p, map[string]any{"name": &x.Name, "value": func(p json.RawMessage) error {
					return refBase64(p, &x.Value)
				}}); err != nil {
					return err
				}
				n.Xattrs = append(n.Xattrs, x)
			}
			return nil
		},
		"content": func(p json.RawMessage) error {
			var list []json.RawMessage
			if err := json.Unmarshal(p, &list); err != nil {
				return err
			}
			n.Content = []blob.ID{}
			for _, p := range list {
				id, err := refID(p)
				if err != nil {
					return err
				}
				n.Content = append(n.Content, id)
			}
			return nil
		},
		"subtree": func(p json.RawMessage) error {
			id, err := refID(p)
			n.Subtree = &id
			return err
		},
	})
	if err != nil {
		return n, err
	}
	if raw != nil {
		n.LinkTarget = string(raw)
	}
	n.Mode = fs.FileMode(mode)
	if n.Type, err = ParseNodeType(typ); err != nil {
		n.Type = Irregular
	}
	if n.Name, err = strconv.Unquote(`"` + name + `"`); err != nil {
		return n, err
	}
	return n, CheckName(n.Name)
}

// refBase64 takes strings only: encoding/json would also read a list of numbers.
func refBase64(p json.RawMessage, into *[]byte) error {
	var text string
	if err := json.Unmarshal(p, &text); err != nil {
		return err
	}
	return json.Unmarshal(p, into)
}

func refDecodeTree(p []byte) ([]Node, error) {
	if !json.Valid(p) {
		return nil, errors.New("not JSON")
	}
	var list []json.RawMessage
	found := false
	members, err := refMembers(p)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if m.key != "nodes" {
			continue
		}
		if found {
			return nil, errors.New("nodes twice")
		}
		found = true
		if err := json.Unmarshal(m.value, &list); err != nil {
			return nil, err
		}
	}
	if !found {
		return nil, errors.New("no nodes")
	}
	nodes := []Node{}
	for _, p := range list {
		n, err := refDecodeNode(p)
		if err != nil {
			return nil, err
		}
		if len(nodes) > 0 && nodes[len(nodes)-1].Name >= n.Name {
			return nil, ErrOrder
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// refDepth is the deepest nesting of valid JSON.
func refDepth(p []byte) (deepest int) {
	dec := json.NewDecoder(bytes.NewReader(p))
	depth := 0
	for {
		token, err := dec.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
			deepest = max(deepest, depth)
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
}

// sameTime also compares the zones: they are part of the JSON.
var sameTime = cmp.Comparer(func(a, b time.Time) bool {
	_, za := a.Zone()
	_, zb := b.Zone()
	return a.Equal(b) && za == zb
})

// checkDecoders compares all decoders, and the encoder with what they read.
func checkDecoders(t *testing.T, original []byte) {
	t.Helper()
	p := bytes.Clone(original)
	nodes, err := DecodeTree(p)
	want, refErr := refDecodeTree(p)
	if (err == nil) != (refErr == nil) && !(err != nil && refDepth(p) > maxDepth/2) {
		t.Fatalf("DecodeTree: %v\nencoding/json: %v\n%q", err, refErr, p)
	}
	c, compactErr := ParseCompact(p)
	if fmt.Sprint(compactErr) != fmt.Sprint(err) {
		t.Fatalf("ParseCompact: %v\nDecodeTree: %v\n%q", compactErr, err, p)
	}
	if err != nil {
		if !errors.Is(err, ErrCorrupt) {
			t.Fatalf("not ErrCorrupt: %v", err)
		}
		return
	}
	clear(p) // nothing may alias it
	if !cmp.Equal(want, nodes, sameTime) {
		t.Fatalf("(-encoding/json +DecodeTree):\n%s\n%q", cmp.Diff(want, nodes, sameTime), original)
	}
	checkCompact(t, c, nodes)

	var e TreeEncoder
	for i := range nodes {
		want, err := refEncode(&nodes[i])
		if err != nil {
			t.Fatalf("reference: %v", err)
		}
		if got := nodes[i].AppendJSON(nil); !bytes.Equal(got, want) {
			t.Fatalf("node encodes as\n%s\nwant\n%s", got, want)
		}
		if err := e.Add(&nodes[i]); err != nil {
			t.Fatal(err)
		}
	}
	again, err := DecodeTree(e.Finish())
	if err != nil {
		t.Fatalf("decode again: %v", err)
	}
	// Raw JSON is compacted by encoding, so compare it as such.
	compact := cmp.Transformer("compact", func(p json.RawMessage) string {
		out, _ := json.Marshal(p)
		return string(out)
	})
	for i := range nodes {
		if len(nodes[i].GenericAttributes) == 0 {
			nodes[i].GenericAttributes = nil
		}
	}
	if !cmp.Equal(nodes, again, sameTime, compact) {
		t.Fatalf("round trip:\n%s", cmp.Diff(nodes, again, sameTime, compact))
	}
}

// checkCompact compares every accessor with the nodes.
func checkCompact(t *testing.T, c *Compact, nodes []Node) {
	t.Helper()
	if c.Len() != len(nodes) {
		t.Fatalf("%d entries, want %d", c.Len(), len(nodes))
	}
	spec := func(t time.Time) Timespec { return Timespec{t.Unix(), uint32(t.Nanosecond())} }
	for i := range nodes {
		n := &nodes[i]
		want := Entry{
			Type: n.Type, Mode: n.Mode, UID: n.UID, GID: n.GID, Size: n.Size, Inode: n.Inode, DeviceID: n.DeviceID,
			Device: n.Device, Links: n.Links, MTime: spec(n.ModTime), ATime: spec(n.AccessTime), CTime: spec(n.ChangeTime),
			Chunks: len(n.Content),
		}
		if n.Subtree != nil {
			want.Subtree = *n.Subtree
		}
		if got := c.Entry(i); got != want {
			t.Fatalf("entry %d:\n%s", i, cmp.Diff(want, got))
		}
		if got := c.Name(i); got != n.Name {
			t.Fatalf("name %d: %q, want %q", i, got, n.Name)
		}
		if got, ok := c.Find(n.Name); got != i || !ok {
			t.Fatalf("find %q: %d, %v, want %d", n.Name, got, ok, i)
		}
		if got := c.LinkTarget(i); got != n.LinkTarget {
			t.Fatalf("link target %d: %q, want %q", i, got, n.LinkTarget)
		}
		if got := c.Xattrs(i); !slices.EqualFunc(got, n.Xattrs, func(a, b Xattr) bool { return a.Name == b.Name && bytes.Equal(a.Value, b.Value) }) {
			t.Fatalf("xattrs %d:\n%s", i, cmp.Diff(n.Xattrs, got))
		}
		if got := c.Content(i); !slices.Equal(got, n.Content) {
			t.Fatalf("content %d:\n%s", i, cmp.Diff(n.Content, got))
		}
		if _, ok := c.Find(n.Name + "\x00"); ok {
			t.Fatalf("found a name that is not there after %q", n.Name)
		}
	}
}
