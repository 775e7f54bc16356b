package indexfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/blob"
)

// somePacks returns packs with as many blobs each, every third of them uncompressed.
func somePacks(packs, blobsEach int) []Pack {
	r := rand.New(rand.NewPCG(1, 2))
	list := make([]Pack, packs)
	for i := range list {
		list[i].ID = blob.Hash(fmt.Append(nil, "pack", i))
		offset := uint32(0)
		for j := range blobsEach {
			e := blob.Entry{Handle: blob.Handle{Type: blob.Type(j % 2), ID: blob.Hash(fmt.Append(nil, i, j))}}
			e.OffsetBytes = offset
			e.LengthBytes = 32 + r.Uint32N(20_000)
			if j%3 != 0 {
				e.PlainBytes = 1 + r.Uint32N(50_000)
			}
			offset += e.LengthBytes
			list[i].Blobs = append(list[i].Blobs, e)
		}
	}
	return list
}

// flatten returns what Decode is to give for packs.
func flatten(packs []Pack) []blob.Entry {
	var all []blob.Entry
	for _, p := range packs {
		for _, e := range p.Blobs {
			e.Pack = p.ID
			all = append(all, e)
		}
	}
	return all
}

func decode(p []byte) ([]blob.Entry, error) {
	var all []blob.Entry
	err := Decode(p, func(e blob.Entry) error {
		all = append(all, e)
		return nil
	})
	return all, err
}

func TestRoundTrip(t *testing.T) {
	for _, packs := range [][]Pack{nil, {}, somePacks(1, 0), somePacks(1, 1), somePacks(3, 50)} {
		p := Append([]byte("x"), packs)[1:]
		got, err := decode(p)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(flatten(packs), got); diff != "" {
			t.Error(diff)
		}
	}
}

// TestAppendIsJSON compares with what encoding/json makes of the same fields.
func TestAppendIsJSON(t *testing.T) {
	type jsonBlob struct {
		ID     blob.ID `json:"id"`
		Type   string  `json:"type"`
		Offset uint32  `json:"offset"`
		Length uint32  `json:"length"`
		Plain  uint32  `json:"uncompressed_length,omitempty"`
	}
	type jsonPack struct {
		ID    blob.ID    `json:"id"`
		Blobs []jsonBlob `json:"blobs"`
	}
	var file struct {
		Packs []jsonPack `json:"packs"`
	}
	packs := somePacks(3, 20)
	for _, p := range packs {
		jp := jsonPack{ID: p.ID}
		for _, e := range p.Blobs {
			jp.Blobs = append(jp.Blobs, jsonBlob{e.ID, e.Type.String(), e.OffsetBytes, e.LengthBytes, e.PlainBytes})
		}
		file.Packs = append(file.Packs, jp)
	}
	want, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := Append(nil, packs); !bytes.Equal(got, want) {
		t.Errorf("have %s\nwant %s", got, want)
	}
}

var (
	hexA = strings.Repeat("a0", 32)
	hexB = strings.Repeat("0b", 32)
)

// sample replaces A and B by ids.
func sample(s string) []byte {
	return []byte(strings.NewReplacer("A", `"`+hexA+`"`, "B", `"`+hexB+`"`).Replace(s))
}

// The one blob that all accepted samples hold, at most.
const goodBlob = `{"id":B,"type":"data","offset":7,"length":99,"uncompressed_length":300}`

var accepted = map[string]struct {
	text  string
	blobs int
}{
	"plain":               {`{"packs":[{"id":A,"blobs":[` + goodBlob + `]}]}`, 1},
	"white space":         {" {\n\"packs\"\t:\r[ { \"id\" : A , \"blobs\" : [ {\"id\" : B , \"type\" : \"data\" , \"offset\" : 7 , \"length\" : 99 , \"uncompressed_length\" : 300 } ] } ] } \n", 1},
	"blobs before id":     {`{"packs":[{"blobs":[` + goodBlob + `],"id":A}]}`, 1},
	"both ways":           {`{"packs":[{"blobs":[` + goodBlob + `],"id":A},{"id":A,"blobs":[` + goodBlob + `]}]}`, 2},
	"other order":         {`{"packs":[{"id":A,"blobs":[{"uncompressed_length":300,"length":99,"offset":7,"type":"data","id":B}]}]}`, 1},
	"supersedes":          {`{"supersedes":[A,B],"packs":[{"id":A,"blobs":[` + goodBlob + `]}]}`, 1},
	"unknown everywhere":  {`{"x":{"packs":[1,2]},"packs":[{"y":[[],{}],"id":A,"blobs":[{"z":-1.5e+3,"id":B,"type":"data","offset":7,"length":99,"uncompressed_length":300,"w":null}],"v":true}],"u":"\"]}"}`, 1},
	"escapes":             {`{"p\u0061cks":[{"i\u0064":A,"blobs":[{"id":B,"t\u0079pe":"d\u0061ta","offset":7,"length":99,"uncompressed_length":300}]}]}`, 1},
	"escaped id":          {`{"packs":[{"id":"\u0061` + hexA[1:] + `","blobs":[` + goodBlob + `]}]}`, 1},
	"empty":               {`{"packs":[]}`, 0},
	"null packs":          {`{"packs":null}`, 0},
	"null blobs":          {`{"packs":[{"id":A,"blobs":null}]}`, 0},
	"null blobs before":   {`{"packs":[{"blobs": null,"id":A}]}`, 0},
	"no packs":            {`{}`, 0},
	"no blobs":            {`{"packs":[{"id":A}]}`, 0},
	"case matters":        {`{"Packs":7,"packs":[{"ID":7,"id":A,"tYPE":7}]}`, 0},
	"unknown repeated":    {`{"x":1,"x":2,"packs":[]}`, 0},
	"not UTF-8":           {"{\"x\":\"\xff\",\"\xfe\":1,\"packs\":[]}", 0},
	"half a pair":         {`{"x":"\ud800"}`, 0},
	"nested up to limit":  {`{"x":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + `}`, 0},
	"up to 32 bits":       {`{"packs":[{"id":A,"blobs":[{"id":B,"type":"tree","offset":4294967263,"length":32}]}]}`, -1},
	"uncompressed, zero":  {`{"packs":[{"id":A,"blobs":[{"id":B,"type":"tree","offset":0,"length":32,"uncompressed_length":0}]}]}`, -1},
	"largest plain bytes": {`{"packs":[{"id":A,"blobs":[{"id":B,"type":"data","offset":0,"length":32,"uncompressed_length":4294967295}]}]}`, -1},
}

func TestDecodeAccepts(t *testing.T) {
	want := blob.Entry{
		Handle:   blob.Handle{Type: blob.Data, ID: blob.ID(bytes.Repeat([]byte{0x0b}, 32))},
		Location: blob.Location{Pack: blob.ID(bytes.Repeat([]byte{0xa0}, 32)), OffsetBytes: 7, LengthBytes: 99, PlainBytes: 300},
	}
	for name, tt := range accepted {
		got, err := decode(sample(tt.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if tt.blobs < 0 { // another blob, which the comparison with encoding/json looks at
			continue
		}
		if len(got) != tt.blobs {
			t.Errorf("%s: %d blobs, want %d", name, len(got), tt.blobs)
		}
		for _, e := range got {
			if diff := cmp.Diff(want, e); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
}

// inBlob returns an index whose only blob has the given fields.
func inBlob(fields string) string { return `{"packs":[{"id":A,"blobs":[{` + fields + `}]}]}` }

var rejected = map[string]string{
	"empty":             ``,
	"white space":       ` `,
	"list":              `[]`,
	"old format":        `[{"id":A,"blobs":[]}]`,
	"null":              `null`,
	"cut":               `{"packs":[`,
	"two values":        `{} {}`,
	"trailing comma":    `{"packs":[],}`,
	"leading comma":     `{,"packs":[]}`,
	"comma in list":     `{"packs":[{"id":A},]}`,
	"no colon":          `{"packs" []}`,
	"key not a string":  `{packs:[]}`,
	"packs an object":   `{"packs":{}}`,
	"packs twice":       `{"packs":[],"packs":[]}`,
	"pack null":         `{"packs":[null]}`,
	"pack without id":   `{"packs":[{"blobs":[]}]}`,
	"id twice":          `{"packs":[{"id":A,"id":A}]}`,
	"blobs twice":       `{"packs":[{"id":A,"blobs":[],"blobs":[]}]}`,
	"blobs twice, late": `{"packs":[{"blobs":[],"blobs":[],"id":A}]}`,
	"late blobs broken": `{"packs":[{"blobs":[{}],"id":A}]}`,
	"id null":           `{"packs":[{"id":null}]}`,
	"id upper case":     `{"packs":[{"id":"` + strings.ToUpper(hexA) + `"}]}`,
	"id short":          `{"packs":[{"id":"` + hexA[1:] + `"}]}`,
	"id long":           `{"packs":[{"id":"0` + hexA + `"}]}`,
	"id a number":       `{"packs":[{"id":1}]}`,
	"id cut":            `{"packs":[{"id":"` + hexA,
	"id with a quote":   `{"packs":[{"id":"` + hexA[:63] + `\"",` + `}]}`,
	"bad escape":        `{"x":"\q"}`,
	"bad escape in key": `{"\u00g0":1}`,
	"escape cut":        `{"x":"\`,
	"control character": "{\"x\":\"\n\"}",
	"nested too deep":   `{"x":` + strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1) + `}`,
	"wrong bracket":     `{"x":[}]}`,
	"true cut":          `{"x":tru}`,
	"number 01":         `{"x":01}`,
	"number -":          `{"x":-}`,
	"number .5":         `{"x":.5}`,
	"number 5.":         `{"x":5.}`,
	"number 5e":         `{"x":5e}`,
	"number +5":         `{"x":+5}`,
	"blob null":         `{"packs":[{"id":A,"blobs":[null]}]}`,
	"blob empty":        inBlob(``),
	"no id":             inBlob(`"type":"data","offset":7,"length":99`),
	"no type":           inBlob(`"id":B,"offset":7,"length":99`),
	"no offset":         inBlob(`"id":B,"type":"data","length":99`),
	"no length":         inBlob(`"id":B,"type":"data","offset":7`),
	"unknown type":      inBlob(`"id":B,"type":"Data","offset":7,"length":99`),
	"type a number":     inBlob(`"id":B,"type":0,"offset":7,"length":99`),
	"offset twice":      inBlob(`"id":B,"type":"data","offset":7,"length":99,"offset":7`),
	"offset negative":   inBlob(`"id":B,"type":"data","offset":-7,"length":99`),
	"offset -0":         inBlob(`"id":B,"type":"data","offset":-0,"length":99`),
	"offset 07":         inBlob(`"id":B,"type":"data","offset":07,"length":99`),
	"offset 7.0":        inBlob(`"id":B,"type":"data","offset":7.0,"length":99`),
	"offset 7e0":        inBlob(`"id":B,"type":"data","offset":7e0,"length":99`),
	"offset a string":   inBlob(`"id":B,"type":"data","offset":"7","length":99`),
	"offset null":       inBlob(`"id":B,"type":"data","offset":null,"length":99`),
	"offset too big":    inBlob(`"id":B,"type":"data","offset":4294967296,"length":99`),
	"offset enormous":   inBlob(`"id":B,"type":"data","offset":18446744073709551616,"length":99`),
	"offset digits":     inBlob(`"id":B,"type":"data","offset":` + strings.Repeat("9", 1000) + `,"length":99`),
	"length too small":  inBlob(`"id":B,"type":"data","offset":7,"length":31`),
	"beyond 32 bits":    inBlob(`"id":B,"type":"data","offset":4294967264,"length":32`),
}

func TestDecodeRejects(t *testing.T) {
	for name, text := range rejected {
		if got, err := decode(sample(text)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %d blobs, error %v", name, len(got), err)
		}
	}
	whole := Append(nil, somePacks(2, 3))
	for n := range whole {
		if _, err := decode(whole[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d: error %v", n, err)
		}
	}
}

func TestCallbackErrorIsReturnedAsItIs(t *testing.T) {
	stop := errors.New("stop")
	for _, text := range []string{accepted["plain"].text, accepted["blobs before id"].text} {
		if err := Decode(sample(text), func(blob.Entry) error { return stop }); err != stop {
			t.Errorf("error %v", err)
		}
	}
}

func TestAllocations(t *testing.T) {
	p := Append(nil, somePacks(1, 1000))
	n := testing.AllocsPerRun(5, func() {
		if err := Decode(p, func(blob.Entry) error { return nil }); err != nil {
			t.Error(err)
		}
	})
	if n > 10 {
		t.Errorf("%v allocations for 1000 blobs", n)
	}
}

func BenchmarkDecode(b *testing.B) {
	p := Append(nil, somePacks(25, 2000))
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if err := Decode(p, func(e blob.Entry) error { n += int(e.LengthBytes); return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	packs := somePacks(25, 2000)
	var p []byte
	for b.Loop() {
		p = Append(p[:0], packs)
	}
	b.SetBytes(int64(len(p)))
}
