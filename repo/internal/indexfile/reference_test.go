package indexfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/blob"
)

// The reference decoder: slow, on top of encoding/json, for comparison.

// object is a JSON object with its fields in order, so that repeated ones can be told.
type object []field

type field struct {
	key   string
	value any // object, []any, string, json.Number, bool or nil
}

var (
	errReference = errors.New("reference refuses")
	errTooDeep   = errors.New("nested too deeply for the scanner's limit to be compared")
)

func reference(p []byte) ([]blob.Entry, error) {
	if !json.Valid(p) {
		return nil, errReference
	}
	d := json.NewDecoder(bytes.NewReader(p))
	d.UseNumber()
	v, err := generic(d, maxDepth)
	if err != nil {
		return nil, err
	}
	file, ok := v.(object)
	if !ok {
		return nil, errReference
	}
	list, err := file.list("packs")
	if err != nil {
		return nil, err
	}
	var all []blob.Entry
	for _, v := range list {
		pack, ok := v.(object)
		if !ok {
			return nil, errReference
		}
		id, err := pack.id()
		if err != nil {
			return nil, err
		}
		blobs, err := pack.list("blobs")
		if err != nil {
			return nil, err
		}
		for _, v := range blobs {
			e, err := referenceBlob(v)
			if err != nil {
				return nil, err
			}
			e.Pack = id
			all = append(all, e)
		}
	}
	return all, nil
}

func referenceBlob(v any) (e blob.Entry, err error) {
	o, ok := v.(object)
	if !ok {
		return e, errReference
	}
	if e.ID, err = o.id(); err != nil {
		return e, err
	}
	typ, _, err := o.one("type")
	switch {
	case err != nil:
		return e, err
	case typ == "data":
		e.Type = blob.Data
	case typ == "tree":
		e.Type = blob.Tree
	default:
		return e, errReference
	}
	if e.OffsetBytes, err = o.number("offset", true); err != nil {
		return e, err
	}
	if e.LengthBytes, err = o.number("length", true); err != nil {
		return e, err
	}
	if e.PlainBytes, err = o.number("uncompressed_length", false); err != nil {
		return e, err
	}
	if e.LengthBytes < 32 || uint64(e.OffsetBytes)+uint64(e.LengthBytes) > math.MaxUint32 {
		return e, errReference
	}
	return e, nil
}

// one returns the value of a field that must not be there twice.
func (o object) one(key string) (v any, found bool, err error) {
	for _, f := range o {
		if f.key == key {
			if found {
				return nil, true, errReference
			}
			v, found = f.value, true
		}
	}
	return v, found, nil
}

func (o object) list(key string) ([]any, error) {
	v, _, err := o.one(key)
	if v == nil || err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok {
		return nil, errReference
	}
	return list, nil
}

func (o object) id() (blob.ID, error) {
	v, _, err := o.one("id")
	if err != nil {
		return blob.ID{}, err
	}
	s, ok := v.(string)
	if !ok {
		return blob.ID{}, errReference
	}
	return blob.ParseID(s)
}

func (o object) number(key string, needed bool) (uint32, error) {
	v, found, err := o.one(key)
	if err != nil {
		return 0, err
	}
	if !found {
		if needed {
			return 0, errReference
		}
		return 0, nil
	}
	n, ok := v.(json.Number)
	if !ok {
		return 0, errReference
	}
	u, err := strconv.ParseUint(string(n), 10, 32)
	return uint32(u), err
}

// generic reads one value of valid JSON.
func generic(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	open, ok := token.(json.Delim)
	if !ok {
		return token, nil
	}
	if depth == 0 {
		return nil, errTooDeep
	}
	var o object
	list := []any{}
	for d.More() {
		var key any
		if open == '{' {
			if key, err = d.Token(); err != nil {
				return nil, err
			}
		}
		v, err := generic(d, depth-1)
		if err != nil {
			return nil, err
		}
		if open == '{' {
			o = append(o, field{key.(string), v})
		} else {
			list = append(list, v)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if open == '{' {
		return o, nil
	}
	return list, nil
}

// compare wants Decode to accept what the reference accepts, with the same result.
func compare(t *testing.T, p []byte) {
	t.Helper()
	want, wantErr := reference(p)
	if errors.Is(wantErr, errTooDeep) {
		_, _ = decode(p) // must not panic
		return
	}
	got, err := decode(p)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%q: error %v, the reference's %v", p, err, wantErr)
	}
	if err != nil {
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q: error %v is no ErrCorrupt", p, err)
		}
		return
	}
	if !slices.Equal(want, got) {
		t.Errorf("%q: %s", p, cmp.Diff(want, got))
	}
}

func TestDecodeAsTheReferenceDoes(t *testing.T) {
	whole := Append(nil, somePacks(1, 2))
	for i := range len(whole) * 8 {
		p := bytes.Clone(whole)
		p[i/8] ^= 1 << (i % 8)
		compare(t, p)
	}
	for _, tt := range accepted {
		compare(t, sample(tt.text))
		// Every byte replaced by some that mean something to JSON; which ones, moves on.
		const special = "\"\\,:{}[]0-.e n"
		text := sample(tt.text)
		for i := range text {
			for j := range 3 {
				p := bytes.Clone(text)
				p[i] = special[(3*i+j)%len(special)]
				compare(t, p)
			}
		}
	}
	for _, text := range rejected {
		compare(t, sample(text))
	}
	compare(t, Append(nil, somePacks(5, 200)))
}

func FuzzDecode(f *testing.F) {
	for _, tt := range accepted {
		f.Add(sample(tt.text))
	}
	for _, text := range rejected {
		f.Add(sample(text))
	}
	f.Add(Append(nil, somePacks(2, 3)))
	f.Add(fmt.Appendf(nil, `{"supersedes":["%s"],"packs":[]}`, hexA))
	f.Fuzz(compare)
}
