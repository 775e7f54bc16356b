package snapshot

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"vitrine/repo/blob"
)

// oddStrings break naive encoders.
var oddStrings = []string{
	"", "a", "plain-Name_1.txt", "a b", "quo\"te", `back\slash`, `\x41`, "<html>&amp;", "\u2028\u2029", "\u2027\u202a", "ünï",
	"\xff\xfe", "a\xc3", "\xed\xa0\x80", "\ufffd", "\x00", "\x01\x1f\x7f", "\a\b\f\n\r\t\v", "\u00a0\u00ad\u200b\ufeff",
	"\U0001f600", "\U000e0001", "\U0010ffff", "'", "`", "%s", "~", "\x80", strings.Repeat("x", 255), strings.Repeat("\xff", 100),
	"...", "-", " ", "\u0085", "e\u0301", "\u0378",
}

// oddTimes are at the edges of what the format can hold.
var oddTimes = []time.Time{
	{},
	time.Unix(0, 0).UTC(),
	time.Unix(0, 1).UTC(),
	time.Unix(-1, 999999999).UTC(),
	time.Unix(1234567890, 120000000).In(time.FixedZone("", 5*3600+1800)),
	time.Unix(1234567890, 999999999).In(time.FixedZone("", -9*3600-1800)),
	time.Unix(-2147483648, 0).In(time.FixedZone("LMT", 5*3600+53*60+28)),
	time.Date(-1, 2, 28, 1, 2, 3, 4, time.UTC),
	time.Date(-400, 2, 29, 1, 2, 3, 4, time.UTC),
	time.Date(-1_000_000, 1, 1, 0, 0, 0, 0, time.UTC),
	time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC),
	time.Date(0, 1, 1, 0, 0, 0, 0, time.FixedZone("", 14*3600)),
	time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.FixedZone("", -12*3600)),
	time.Date(10000, 2, 29, 0, 0, 0, 0, time.UTC),
	time.Date(2514, 5, 30, 0, 0, 0, 0, time.UTC),
	time.Unix(1<<40, 5).UTC(),
	time.Unix(1<<62, 5).UTC(),
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func randomString(r *rand.Rand) string {
	if r.IntN(4) == 0 {
		p := make([]byte, r.IntN(12))
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		return string(p)
	}
	return pick(r, oddStrings) + pick(r, oddStrings)
}

func randomID(r *rand.Rand) (id blob.ID) {
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	return id
}

func randomUint(r *rand.Rand) uint64 {
	return pick(r, []uint64{0, 1, 9, 10, 1<<32 - 1, 1 << 32, 1<<63 - 1, 1<<64 - 1, r.Uint64()})
}

func randomNode(r *rand.Rand) Node {
	n := Node{
		Name: randomString(r), Type: NodeType(1 + r.IntN(8)), Mode: fs.FileMode(r.Uint32()),
		ModTime: pick(r, oddTimes), AccessTime: pick(r, oddTimes), ChangeTime: pick(r, oddTimes),
		UID: r.Uint32(), GID: uint32(randomUint(r)), User: randomString(r), Group: randomString(r),
		Inode: randomUint(r), DeviceID: randomUint(r), Size: randomUint(r), Links: randomUint(r), Device: randomUint(r),
		Error: randomString(r),
	}
	if r.IntN(2) == 0 {
		n.AccessTime = n.ModTime
	}
	if r.IntN(2) == 0 {
		n.LinkTarget = randomString(r)
	}
	if r.IntN(2) == 0 {
		n.Content = make([]blob.ID, r.IntN(4))
		for i := range n.Content {
			n.Content[i] = randomID(r)
		}
	}
	if r.IntN(2) == 0 {
		id := randomID(r)
		n.Subtree = &id
	}
	for range r.IntN(3) {
		n.Xattrs = append(n.Xattrs, Xattr{"user." + randomString(r), []byte(randomString(r))})
	}
	if r.IntN(3) == 0 {
		n.GenericAttributes = map[string]json.RawMessage{
			randomString(r): json.RawMessage(` {"a<b" : [1, null ,"\u003c&` + "\u2028" + `"]} `),
			"windows.x":     json.RawMessage(`"FAAAAA=="`),
			"nothing":       nil,
		}
	}
	return n
}

func TestAppendJSONDifferential(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	prefix := []byte("before")
	for i := range 5000 {
		n := randomNode(r)
		want, err := refEncode(&n)
		if err != nil {
			t.Fatalf("round %d: reference: %v", i, err)
		}
		got := n.AppendJSON(prefix)
		if !bytes.Equal(got, append([]byte("before"), want...)) {
			t.Fatalf("round %d: node %+v\n got %s\nwant %s", i, n, got[len(prefix):], want)
		}
	}
}

// TestAppendTimeFarZone: encoding/json has no answer for zones of a day and more.
func TestAppendTimeFarZone(t *testing.T) {
	for _, test := range []struct {
		t    time.Time
		want string
	}{
		{time.Unix(0, 0).In(time.FixedZone("", 24*3600)), "1970-01-01T00:00:00Z"},
		{time.Unix(0, 0).In(time.FixedZone("", -100*3600)), "1970-01-01T00:00:00Z"},
		{time.Unix(0, 0).In(time.FixedZone("", 24*3600-60)), "1970-01-01T23:59:00+23:59"},
	} {
		if got := string(appendTime(nil, test.t)); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

// TestZeroNode pins what the zero values mean, without the help of encoding/json.
func TestZeroNode(t *testing.T) {
	when := time.Unix(0, 500_000_000).In(time.FixedZone("", 3600))
	n := Node{Name: "é\xff", Type: File, ModTime: when, AccessTime: when, ChangeTime: when, Content: []blob.ID{}, Xattrs: []Xattr{{Name: "user.a"}}}
	const clock = `"1970-01-01T01:00:00.5+01:00"`
	want := `{"name":"é\\xff","type":"file","mtime":` + clock + `,"atime":` + clock + `,"ctime":` + clock +
		`,"uid":0,"gid":0,"extended_attributes":[{"name":"user.a","value":""}],"content":[]}`
	if got := string(n.AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestTreeEncoder(t *testing.T) {
	at := time.Unix(0, 0).UTC()
	node := func(name string) *Node {
		return &Node{Name: name, Type: File, ModTime: at, AccessTime: at, ChangeTime: at}
	}
	var e TreeEncoder
	if got := string(e.Finish()); got != "{\"nodes\":[]}\n" {
		t.Errorf("empty tree is %q", got)
	}
	e.Reset(make([]byte, 100, 1000))
	steps := []struct {
		name string
		want error
	}{
		{"", ErrBadName}, {".", ErrBadName}, {"..", ErrBadName}, {"a/b", ErrBadName}, {"a\x00", ErrBadName},
		{"...", nil}, {"b", nil}, {"b", ErrOrder}, {"a", ErrOrder}, {"b\x01", nil}, {"é", nil}, {"\xff", nil}, {"é", ErrOrder},
	}
	for _, step := range steps {
		if err := e.Add(node(step.name)); !errors.Is(err, step.want) {
			t.Errorf("Add %q: %v, want %v", step.name, err, step.want)
		}
	}
	bad := node("\xff\xff")
	bad.GenericAttributes = map[string]json.RawMessage{"x": json.RawMessage("{")}
	if err := e.Add(bad); err == nil {
		t.Error("a generic attribute that is not JSON was taken")
	}
	if got := string(bad.AppendJSON(nil)); strings.Contains(got, "generic") {
		t.Errorf("bad generic attribute written: %s", got)
	}
	if err := e.AddJSON("\xff\xff", bad.AppendJSON(nil)); err != nil {
		t.Error(err)
	}
	if err := e.AddJSON("a", nil); !errors.Is(err, ErrOrder) {
		t.Errorf("AddJSON out of order: %v", err)
	}
	if e.Len() != 6 {
		t.Errorf("%d nodes, want 6", e.Len())
	}
	nodes, err := DecodeTree(e.Finish())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range nodes {
		names = append(names, nodes[i].Name)
	}
	if got, want := strings.Join(names, "|"), "...|b|b\x01|é|\xff|\xff\xff"; got != want {
		t.Errorf("names %q, want %q", got, want)
	}
	if got := string(e.Finish()); got != "{\"nodes\":[]}\n" {
		t.Errorf("the encoder did not start anew: %q", got)
	}
}
