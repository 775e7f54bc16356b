package snapshot

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// goldenTrees are blobs that Debian's restic 0.14.0 wrote.
func goldenTrees(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("testdata/restic-0.14/*.json")
	if err != nil || len(paths) < 10 {
		t.Fatalf("golden trees: %d files, %v", len(paths), err)
	}
	trees := make(map[string][]byte)
	for _, path := range paths {
		p, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		trees[strings.TrimSuffix(filepath.Base(path), ".json")] = p
	}
	return trees
}

// otherSpelling is where our bytes differ from those of restic 0.14 as Debian builds it.
var otherSpelling = strings.NewReplacer(
	// It loses bytes that are not UTF-8 in link targets and attribute names. The U+FFFD
	// that it writes instead is not escaped when written again.
	`\ufffd`, "\ufffd",
	// Go 1.22 changed how encoding/json spells these; it is built with Go 1.19.
	`\u0008`, `\b`, `\u000c`, `\f`,
	// strconv.Quote of Go 1.21 knows Unicode 15 and so that this can be printed.
	`\\U0001fa77`, "\U0001fa77",
)

func TestGoldenTrees(t *testing.T) {
	for name, p := range goldenTrees(t) {
		t.Run(name, func(t *testing.T) {
			checkDecoders(t, p)
			nodes, err := DecodeTree(p)
			if err != nil {
				t.Fatal(err)
			}
			var e TreeEncoder
			for i := range nodes {
				if err := e.Add(&nodes[i]); err != nil {
					t.Fatal(err)
				}
			}
			want := otherSpelling.Replace(string(p))
			if got := string(e.Finish()); got != want {
				t.Errorf("encodes as\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestGoldenNames checks the names against those that were given to mkdir.
func TestGoldenNames(t *testing.T) {
	want := []string{
		"\x01ctl\x7f", "-dash", "...", "<html>&amp;", "a b", "a\xc3", `back\slash`, "bell\a\v\f\b", "new\nline", `quo"te`,
		"sq'uote", "tab\there", strings.Repeat("x", 255), "\u00a0nbsp", "\u00adshy", "ünï", "\u200bzwsp", "\u2028ls\u2029ps",
		"\xed\xa0\x80sur", "\ufeffbom", "\ufffdrepl", "\U0001f600", "\U000e0001tag", "\xff\xfe",
	}
	nodes, err := DecodeTree(goldenTrees(t)["names"])
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range nodes {
		got = append(got, nodes[i].Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

const (
	someID = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	stamps = `"mtime":"2020-01-02T03:04:05Z","atime":"2020-01-02T03:04:05Z","ctime":"2020-01-02T03:04:05Z"`
)

// TestDecodeAccepts holds trees that no client writes but that mean what they say. The
// result is compared with encoding/json.
func TestDecodeAccepts(t *testing.T) {
	for _, test := range []struct{ name, tree string }{
		{"null nodes", `{"nodes":null}`},
		{"white space", " \t\r\n{ \"nodes\" : [ { \"name\" : \"a\" , " + stamps + " } , {\"name\":\"b\"} ] } \n\n"},
		{"unknown fields", `{"a":[{},{"b":[1.5e-7,-0,true,false,null,"\u0041\\"]}],"nodes":[{"x":{"y":[]},"name":"a","z":-12}],"c":0}`},
		{"other order", `{"nodes":[{"content":["` + someID + `"],"uid":7,"type":"file","name":"a"}]}`},
		{"nulls", `{"nodes":[{"name":"a","type":null,"mode":null,"mtime":null,"atime":null,"ctime":null,"uid":null,"gid":null,
			"user":null,"group":null,"inode":null,"device_id":null,"size":null,"links":null,"linktarget":null,"linktarget_raw":null,
			"extended_attributes":null,"generic_attributes":null,"device":null,"content":null,"subtree":null,"error":null}]}`},
		{"escaped key", `{"\u006eodes":[{"n\u0061me":"a"}]}`},
		{"escaped everything", `{"nodes":[{"name":"\u0061","type":"f\u0069le","mtime":"2020\u002d01-02T03:04:05Z","subtree":"\u0032` + someID[1:] + `"}]}`},
		{"other case is another field", `{"nodes":[{"name":"a","Name":"b","SIZE":"x"}],"Nodes":1}`},
		{"surrogates", `{"nodes":[{"name":"\ufffd"},{"name":"\ud83d\ude00"}]}`},
		{"lone surrogates", `{"nodes":[{"name":"a","user":"\ud83d","group":"\ude00x","error":"\ud83d\u0041","linktarget":"\ud83d\ud83d\ude00"}]}`},
		{"not UTF-8", "{\"nodes\":[{\"name\":\"a\xff\",\"user\":\"\xc3\"}]}"},
		{"raw wins", `{"nodes":[{"name":"a","linktarget_raw":"/w==","linktarget":"x"},{"name":"b","linktarget":"x","linktarget_raw":""}]}`},
		{"type of the future", `{"nodes":[{"name":"a","type":"whiteout"},{"name":"b","type":""}]}`},
		{"xattrs", `{"nodes":[{"name":"a","extended_attributes":[]},{"name":"b","extended_attributes":[{},{"value":null,"name":null},
			{"value":"QQ==","name":"x","more":[1]}]}]}`},
		{"generic attributes", `{"nodes":[{"name":"a","generic_attributes":{"x": {"y" : "<"}, "x":1,"z":null}},{"name":"b","generic_attributes":{}}]}`},
		{"times", `{"nodes":[{"name":"a","mtime":"0000-01-01T00:00:00+23:59","atime":"9999-12-31T23:59:59.999999999-23:59","ctime":"2000-02-29T00:00:00.1234567891234Z"}]}`},
		{"quoted slash letters", `{"nodes":[{"name":"\\a\\'b"}]}`},
		{"greatest numbers", `{"nodes":[{"name":"a","mode":4294967295,"uid":4294967295,"inode":18446744073709551615,"links":4294967296,"device":0}]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.name == "quoted slash letters" { // \' is only good between '…'
				if _, err := DecodeTree([]byte(test.tree)); !errors.Is(err, ErrBadName) {
					t.Errorf("err = %v, want ErrBadName", err)
				}
				return
			}
			if _, err := DecodeTree([]byte(test.tree)); err != nil {
				t.Error(err)
			}
			checkDecoders(t, []byte(test.tree))
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	node := func(fields string) string { return `{"nodes":[{"name":"first"},{"name":"second",` + fields + `}]}` }
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, test := range []struct {
		name, tree string
		is         error
		want       string // part of the message
	}{
		{"empty", "", ErrCorrupt, "byte 0"},
		{"not an object", "[]", ErrCorrupt, "want a tree"},
		{"no nodes", `{"a":1}`, ErrCorrupt, `no field "nodes"`},
		{"nodes twice", `{"nodes":[],"nodes":[]}`, ErrCorrupt, "twice"},
		{"cut off", `{"nodes":[{"name":"a"`, ErrCorrupt, "unexpected end"},
		{"after the end", `{"nodes":[]}x`, ErrCorrupt, "byte 12"},
		{"null node", `{"nodes":[null]}`, ErrCorrupt, "node 0"},
		{"comma at the end", `{"nodes":[{"name":"a"},]}`, ErrCorrupt, "want a node"},
		{"no name", `{"nodes":[{}]}`, ErrBadName, "node 0"},
		{"dot", `{"nodes":[{"name":"."}]}`, ErrBadName, `"."`},
		{"dots", `{"nodes":[{"name":"a"},{"name":".."}]}`, ErrBadName, `node 1`},
		{"slash", `{"nodes":[{"name":"../etc/passwd"}]}`, ErrBadName, "../etc/passwd"},
		{"slash in disguise", `{"nodes":[{"name":"a\\x2fb"}]}`, ErrBadName, "a/b"},
		{"NUL", `{"nodes":[{"name":"a\\x00b"}]}`, ErrBadName, `a\x00b`},
		{"bad quoting", `{"nodes":[{"name":"a\\"}]}`, ErrBadName, "Quote"},
		{"quote in name", `{"nodes":[{"name":"a\"b"}]}`, ErrBadName, "Quote"},
		{"order", `{"nodes":[{"name":"b"},{"name":"a"}]}`, ErrOrder, `node 1 "a"`},
		{"same", `{"nodes":[{"name":"b"},{"name":"b"}]}`, ErrOrder, `node 1 "b"`},
		{"order of raw bytes", `{"nodes":[{"name":"\\xff"},{"name":"b"}]}`, ErrOrder, `"b"`},
		{"field twice", node(`"uid":1,"uid":1`), ErrCorrupt, `node 1 "second": field "uid": twice`},
		{"float", node(`"uid":1.0`), ErrCorrupt, "node 1"},
		{"negative", node(`"uid":-1`), ErrCorrupt, "unsigned"},
		{"string for number", node(`"uid":"1"`), ErrCorrupt, "unsigned"},
		{"leading zero", node(`"uid":01`), ErrCorrupt, "leading zero"},
		{"33 bits", node(`"uid":4294967296`), ErrCorrupt, "32 bits"},
		{"65 bits", node(`"inode":18446744073709551616`), ErrCorrupt, "range"},
		{"many digits", node(`"inode":` + strings.Repeat("9", 500)), ErrCorrupt, "range"},
		{"id short", node(`"subtree":"` + someID[1:] + `"`), ErrCorrupt, "63 characters"},
		{"id upper case", node(`"subtree":"` + strings.ToUpper(someID) + `"`), ErrCorrupt, "lower-case"},
		{"id null in list", node(`"content":[null]`), ErrCorrupt, "string"},
		{"content string", node(`"content":"` + someID + `"`), ErrCorrupt, "list of ids"},
		{"base64", node(`"linktarget_raw":"a"`), ErrCorrupt, "base64"},
		{"generic list", node(`"generic_attributes":[]`), ErrCorrupt, "object"},
		{"xattr list", node(`"extended_attributes":{}`), ErrCorrupt, "list"},
		{"xattr number", node(`"extended_attributes":[1]`), ErrCorrupt, "extended attribute"},
		{"xattr twice", node(`"extended_attributes":[{"name":"a","name":"b"}]`), ErrCorrupt, "twice"},
		{"xattr base64", node(`"extended_attributes":[{"name":"a","value":"?"}]`), ErrCorrupt, "base64"},
		{"control byte", node("\"user\":\"\x01\""), ErrCorrupt, "control"},
		{"bad escape", node(`"user":"\x"`), ErrCorrupt, "escape"},
		{"short escape", node(`"user":"\u12"`), ErrCorrupt, "escape"},
		{"bad word", node(`"more":nul`), ErrCorrupt, "value"},
		{"bad number", node(`"more":1.`), ErrCorrupt, "digit"},
		{"bad exponent", node(`"more":1e`), ErrCorrupt, "digit"},
		{"missing colon", node(`"more"1`), ErrCorrupt, "':'"},
		{"too deep", node(`"more":` + deep(maxDepth+2)), ErrCorrupt, "nested deeper"},
		{"bottomless", node(`"more":` + strings.Repeat("[", 1<<20)), ErrCorrupt, "nested deeper"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := DecodeTree([]byte(test.tree))
			if !errors.Is(err, test.is) || !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("err = %v, want %v with %q", err, test.is, test.want)
			}
			if test.name != "bottomless" {
				checkDecoders(t, []byte(test.tree))
			}
		})
	}
	if _, err := DecodeTree([]byte(node(`"more":` + deep(maxDepth)))); err != nil {
		t.Errorf("nested %d deep: %v", maxDepth, err)
	}
}

func TestParseStamp(t *testing.T) {
	good := []string{
		"1970-01-01T00:00:00Z", "2000-02-29T23:59:59.000000001Z", "2024-12-31T00:00:00.5+05:30", "1900-03-01T00:00:00-00:00",
		"0000-01-01T00:00:00Z", "0000-02-29T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "1600-02-29T01:02:03Z",
	}
	for _, text := range good {
		want, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := parseStamp([]byte(text))
		if !ok || got.sec != want.Unix() || int(got.nsec) != want.Nanosecond() {
			t.Errorf("%s: %+v, %v, want %d.%09d", text, got, ok, want.Unix(), want.Nanosecond())
		}
	}
	// Every day of four centuries, around the odd ones.
	for day := time.Date(0, 1, 1, 12, 0, 0, 0, time.UTC); day.Year() < 2101; day = day.AddDate(0, 0, 1) {
		if day.Year() == 405 {
			day = time.Date(1795, 1, 1, 12, 0, 0, 0, time.UTC)
		}
		if got, ok := parseStamp([]byte(day.Format(time.RFC3339))); !ok || got.sec != day.Unix() {
			t.Fatalf("%v: %+v, %v", day, got, ok)
		}
	}
	for _, text := range []string{
		"", "2020", "2020-01-02T03:04:05", "2020-01-02t03:04:05Z", "2020-01-02T03:04:05z", "2020-01-02 03:04:05Z", "2020-1-02T03:04:05ZZ",
		"2020-00-02T03:04:05Z", "2020-13-02T03:04:05Z", "2020-01-00T03:04:05Z", "2020-01-32T03:04:05Z", "2021-02-29T03:04:05Z",
		"1900-02-29T03:04:05Z", "2020-04-31T03:04:05Z", "2020-01-02T24:00:00Z", "2020-01-02T03:60:05Z", "2020-01-02T03:04:60Z",
		"2020-01-02T03:04:05.Z", "2020-01-02T03:04:05,5Z", "2020-01-02T03:04:05+24:00", "2020-01-02T03:04:05+05:60", "2020-01-02T03:04:05+0530",
		"2020-01-02T03:04:05+05:3", "2020-01-02T03:04:05Z ", "+020-01-02T03:04:05Z", "2020-01-02T03:04:05.1234567890123456789012345678901234567890Z",
	} {
		if got, ok := parseStamp([]byte(text)); ok {
			t.Errorf("%q was read as %+v", text, got)
		}
	}
}

// randomTree encodes n random nodes.
func randomTree(r *rand.Rand, n int) []byte {
	nodes := make([]Node, 0, n)
	for range n {
		if node := randomNode(r); CheckName(node.Name) == nil {
			nodes = append(nodes, node)
		}
	}
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	var e TreeEncoder
	for i := range nodes {
		if i == 0 || nodes[i].Name != nodes[i-1].Name {
			if err := e.Add(&nodes[i]); err != nil {
				panic(err)
			}
		}
	}
	return e.Finish()
}

func TestDecodeRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		checkDecoders(t, randomTree(r, r.IntN(15)))
	}
}

// TestDecodeDamaged cuts and flips: an error or not, but what encoding/json says.
func TestDecodeDamaged(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		p := randomTree(r, 4)
		for range 40 {
			damaged := bytes.Clone(p)
			if r.IntN(2) == 0 {
				damaged = damaged[:r.IntN(len(damaged))]
			}
			for range r.IntN(3) {
				if len(damaged) > 0 {
					damaged[r.IntN(len(damaged))] ^= 1 << r.IntN(8)
				}
			}
			checkDecoders(t, damaged)
		}
	}
}
