package find

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"vitrine/repo/blob"
)

// IDs are those to look for: whole ones, and all that begin with some digits. The zero value has none.
type IDs struct {
	whole    map[blob.ID]struct{}
	prefixes []prefix
}

// prefix is the beginning of an ID.
type prefix struct {
	whole []byte // bytes
	half  bool   // another four bits follow
	four  byte   // these, as the upper ones of a byte
}

// ParseIDs reads whole IDs and beginnings of IDs.
func ParseIDs(args []string) (IDs, error) {
	var ids IDs
	for _, arg := range args {
		if id, err := blob.ParseID(arg); err == nil {
			ids.Add(id)
			continue
		}
		p, err := parsePrefix(arg)
		if err != nil {
			return IDs{}, err
		}
		ids.prefixes = append(ids.prefixes, p)
	}
	return ids, nil
}

func parsePrefix(arg string) (prefix, error) {
	var p prefix
	even := strings.ToLower(arg)
	if p.half = len(even)%2 == 1; p.half {
		even += "0"
	}
	decoded, err := hex.DecodeString(even)
	if err != nil || arg == "" || len(arg) > 2*len(blob.ID{}) {
		return p, fmt.Errorf("%q: an ID is up to %d hexadecimal digits", arg, 2*len(blob.ID{}))
	}
	p.whole = decoded
	if p.half {
		last := len(decoded) - 1
		p.whole, p.four = decoded[:last], decoded[last]
	}
	return p, nil
}

// Add adds a whole ID.
func (s *IDs) Add(id blob.ID) {
	if s.whole == nil {
		s.whole = make(map[blob.ID]struct{})
	}
	s.whole[id] = struct{}{}
}

// Empty reports whether there is nothing to look for.
func (s *IDs) Empty() bool { return len(s.whole) == 0 && len(s.prefixes) == 0 }

// Has reports whether the ID is looked for.
func (s *IDs) Has(id blob.ID) bool {
	if len(s.whole) > 0 {
		if _, ok := s.whole[id]; ok {
			return true
		}
	}
	return slices.ContainsFunc(s.prefixes, func(p prefix) bool {
		n := len(p.whole)
		return bytes.Equal(id[:n], p.whole) && (!p.half || id[n]&0xf0 == p.four)
	})
}
