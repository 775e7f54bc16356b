package indexfile

import (
	"math"

	"vitrine/repo/blob"
)

// Decode calls fn for every blob of the index file p, with Pack set, in the order of the file.
// An error of fn ends it and is returned as it is; every other error is an ErrCorrupt, and what
// fn was given until then is to be forgotten. Fields may come in any order and with any white
// space. A field that is needed and missing, or there twice, is an error, as is a blob that
// cannot be: shorter than its seal or reaching beyond 32 bits.
//
// Nothing is allocated per blob.
func Decode(p []byte, fn func(blob.Entry) error) error {
	d := decoder{scanner: scanner{text: p}, fn: fn}
	if err := d.file(); err != nil {
		return err
	}
	d.space()
	if d.at < len(d.text) {
		return d.corrupt("something follows the index")
	}
	return nil
}

type decoder struct {
	scanner
	fn func(blob.Entry) error
}

// file reads {"packs":[…]}. The list may be null, as an empty one is in some writers' JSON.
func (d *decoder) file() error {
	seen := false
	return d.object(func(key []byte) error {
		if string(key) != "packs" {
			return d.skip(maxDepth)
		}
		if seen {
			return d.corrupt("packs is there twice")
		}
		seen = true
		return d.listOrNull((*decoder).pack)
	})
}

// pack reads {"id":…,"blobs":[…]}. If the blobs come first they are only skipped, and read
// when the id is known.
func (d *decoder) pack() error {
	var id blob.ID
	haveID, haveBlobs := false, false
	blobsAt := -1 // of blobs that were skipped
	err := d.object(func(key []byte) error {
		switch string(key) {
		case "id":
			if haveID {
				return d.corrupt("id of a pack is there twice")
			}
			haveID = true
			return d.id(&id)
		case "blobs":
			if haveBlobs {
				return d.corrupt("blobs of a pack is there twice")
			}
			haveBlobs = true
			if haveID {
				return d.blobs(id)
			}
			d.space()
			blobsAt = d.at
		}
		return d.skip(maxDepth)
	})
	if err != nil {
		return err
	}
	if !haveID {
		return d.corrupt("pack without an id")
	}
	if blobsAt >= 0 {
		end := d.at
		d.at = blobsAt
		if err := d.blobs(id); err != nil {
			return err
		}
		d.at = end
	}
	return nil
}

func (d *decoder) blobs(pack blob.ID) error {
	e := blob.Entry{Location: blob.Location{Pack: pack}}
	return d.listOrNull(func(d *decoder) error {
		if err := d.blob(&e); err != nil {
			return err
		}
		return d.fn(e)
	})
}

// The fields of a blob that were seen, as bits.
const (
	sawID = 1 << iota
	sawType
	sawOffset
	sawLength
	sawPlain

	sawNeeded = sawID | sawType | sawOffset | sawLength
)

// blob reads one blob to e and leaves e.Pack alone.
func (d *decoder) blob(e *blob.Entry) error {
	e.PlainBytes = 0
	saw := 0
	if err := d.open('{'); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := d.next(first, '}')
		if err != nil {
			return err
		}
		if !more {
			break
		}
		key, err := d.key()
		if err != nil {
			return err
		}
		field := 0
		switch string(key) {
		case "id":
			field, err = sawID, d.id(&e.ID)
		case "type":
			field, err = sawType, d.blobType(&e.Type)
		case "offset":
			field, err = sawOffset, d.uint32(&e.OffsetBytes)
		case "length":
			field, err = sawLength, d.uint32(&e.LengthBytes)
		case "uncompressed_length":
			field, err = sawPlain, d.uint32(&e.PlainBytes)
		default:
			err = d.skip(maxDepth)
		}
		if err != nil {
			return err
		}
		if saw&field != 0 {
			return d.corrupt("field of a blob is there twice")
		}
		saw |= field
	}
	switch {
	case saw&sawNeeded != sawNeeded:
		return d.corrupt("blob without id, type, offset or length")
	case e.LengthBytes < blob.SealOverheadBytes:
		return d.corrupt("blob is shorter than its seal")
	case uint64(e.OffsetBytes)+uint64(e.LengthBytes) > math.MaxUint32:
		return d.corrupt("blob reaches beyond 32 bits")
	}
	return nil
}

// object calls field with every key of an object; field must read the value.
func (d *decoder) object(field func(key []byte) error) error {
	if err := d.open('{'); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := d.next(first, '}')
		if err != nil || !more {
			return err
		}
		key, err := d.key()
		if err != nil {
			return err
		}
		if err := field(key); err != nil {
			return err
		}
	}
}

// listOrNull calls element at the beginning of every element of a list; element must read it.
func (d *decoder) listOrNull(element func(*decoder) error) error {
	if d.space(); d.at < len(d.text) && d.text[d.at] == 'n' {
		return d.word("null")
	}
	if err := d.open('['); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := d.next(first, ']')
		if err != nil || !more {
			return err
		}
		if err := element(d); err != nil {
			return err
		}
	}
}

func (d *decoder) blobType(t *blob.Type) error {
	at := d.at
	s, err := d.string()
	if err != nil {
		return err
	}
	switch string(s) {
	case "data":
		*t = blob.Data
	case "tree":
		*t = blob.Tree
	default:
		d.at = at
		return d.corrupt("type of a blob is neither data nor tree")
	}
	return nil
}

// id reads a string of 64 lower-case hexadecimal digits.
func (d *decoder) id(id *blob.ID) error {
	d.space()
	at := d.at
	// Ids are most of the file, so the plain form is read without looking for its end first.
	if end := at + 1 + 2*len(id); end < len(d.text) && d.text[at] == '"' && d.text[end] == '"' && unhex(id, d.text[at+1:end]) {
		d.at = end + 1
		return nil
	}
	s, err := d.string()
	if err != nil {
		return err
	}
	if len(s) != 2*len(id) || !unhex(id, s) {
		d.at = at
		return d.corrupt("id is not 64 lower-case hexadecimal digits")
	}
	return nil
}

// hexValue has the value of each lower-case hexadecimal digit, and 0xff for all else.
var hexValue = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i, c := range []byte("0123456789abcdef") {
		t[c] = byte(i)
	}
	return t
}()

// unhex reads the 2·len(id) digits of s. All digits are looked up before any is judged: a
// branch per digit would cost more than the rest.
func unhex(id *blob.ID, s []byte) bool {
	s = s[:2*len(id)]
	bad := byte(0)
	for i := range id {
		high, low := hexValue[s[2*i]], hexValue[s[2*i+1]]
		bad |= high | low
		id[i] = high<<4 | low
	}
	return bad < 0x10
}

// uint32 reads a number that is not negative, has no fraction or exponent, and fits 32 bits.
func (d *decoder) uint32(n *uint32) error {
	d.space()
	start := d.at
	var v uint64
	for d.at < len(d.text) && isDigit(d.text[d.at]) {
		v = v*10 + uint64(d.text[d.at]-'0')
		d.at++
		if v > math.MaxUint32 {
			return d.corrupt("number does not fit 32 bits")
		}
	}
	if d.at == start || d.text[start] == '0' && d.at > start+1 {
		d.at = start
		return d.corrupt("not a number")
	}
	// A fraction or an exponent is refused by whoever looks for the comma.
	*n = uint32(v)
	return nil
}
