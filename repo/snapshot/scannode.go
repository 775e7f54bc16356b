package snapshot

import (
	"encoding/base64"
	"errors"
	"math/bits"
	"strconv"

	"vitrine/repo/blob"
)

// field is a bit for each member of a node's JSON.
type field uint32

const (
	fName field = 1 << iota
	fType
	fMode
	fMTime
	fATime
	fCTime
	fUID
	fGID
	fUser
	fGroup
	fInode
	fDeviceID
	fSize
	fLinks
	fLinkTarget
	fLinkTargetRaw
	fXattrs
	fGeneric
	fDevice
	fContent
	fSubtree
	fError
)

// canonical are the members of a node in the order that every client writes them.
var canonical = [...]struct {
	key string // with quotes and colon
	bit field
}{
	{`"name":`, fName},
	{`"type":`, fType},
	{`"mode":`, fMode},
	{`"mtime":`, fMTime},
	{`"atime":`, fATime},
	{`"ctime":`, fCTime},
	{`"uid":`, fUID},
	{`"gid":`, fGID},
	{`"user":`, fUser},
	{`"group":`, fGroup},
	{`"inode":`, fInode},
	{`"device_id":`, fDeviceID},
	{`"size":`, fSize},
	{`"links":`, fLinks},
	{`"linktarget":`, fLinkTarget},
	{`"linktarget_raw":`, fLinkTargetRaw},
	{`"extended_attributes":`, fXattrs},
	{`"generic_attributes":`, fGeneric},
	{`"device":`, fDevice},
	{`"content":`, fContent},
	{`"subtree":`, fSubtree},
	{`"error":`, fError},
}

// member reads the key of a node's member and the colon. It looks for the canonical keys
// from index on, because then nothing has to be searched; any other key is found too.
func (s *scanner) member(index *int) (field, bool) {
	s.peek()
	rest := s.p[s.i:]
	for i := *index; i < len(canonical); i++ {
		key := canonical[i].key
		if len(rest) > len(key) && rest[1] == key[1] && string(rest[:len(key)]) == key {
			s.i += len(key)
			*index = i + 1
			return canonical[i].bit, true
		}
	}
	key, ok := s.key()
	if !ok {
		return 0, false
	}
	for i := range canonical {
		if name := canonical[i].key; string(key) == name[1:len(name)-2] {
			return canonical[i].bit, true
		}
	}
	return 0, true
}

// rawNode is one node as the scanner finds it. Its byte slices live until the next node.
type rawNode struct {
	seen                field
	name                []byte // unquoted
	typ                 NodeType
	mode, uid, gid      uint32
	mtime, atime, ctime stamp
	user, group         []byte
	inode, deviceID     uint64
	size, links, device uint64
	linkTarget          []byte
	linkTargetRaw       []byte // wins over linkTarget when not nil
	xattrs              []byte // JSON not yet looked at: see scanner.xattrs
	xattrsAt            int    // offset of xattrs
	generic             []byte // JSON object
	content             []blob.ID
	hasContent          bool // not null
	subtree             blob.ID
	hasSubtree          bool
	message             []byte

	mtimeText []byte    // what mtime was read from
	ids       []blob.ID // space for content
}

func (n *rawNode) reset() {
	*n = rawNode{mtime: zeroStamp, atime: zeroStamp, ctime: zeroStamp, ids: n.ids}
}

// target returns the raw link target.
func (n *rawNode) target() []byte {
	if n.linkTargetRaw != nil {
		return n.linkTargetRaw
	}
	return n.linkTarget
}

// node reads the node at s.i.
func (s *scanner) node(n *rawNode) bool {
	n.reset()
	s.arena = s.arena[:0]
	if s.peek() != '{' {
		return s.unexpected("a node")
	}
	index := 0
	for more := s.open('}'); more; {
		f, ok := s.member(&index)
		switch {
		case !ok:
			return false
		case f == 0:
			ok = s.skip(0)
		case n.seen&f != 0:
			return s.fail("field %s twice", canonical[bits.TrailingZeros32(uint32(f))].key)
		default:
			n.seen |= f
			ok = s.field(n, f)
		}
		if !ok {
			return false
		}
		if more, ok = s.next('}'); !ok {
			return false
		}
	}
	if n.typ == 0 {
		n.typ = Irregular
	}
	return true
}

// field reads the value of a known field. Null leaves it zero.
func (s *scanner) field(n *rawNode, f field) (ok bool) {
	var v uint64
	switch f {
	case fName:
		n.name, ok = s.name()
	case fType:
		n.typ, ok = s.nodeType()
	case fMode:
		v, ok = s.uint(32)
		n.mode = uint32(v)
	case fUID:
		v, ok = s.uint(32)
		n.uid = uint32(v)
	case fGID:
		v, ok = s.uint(32)
		n.gid = uint32(v)
	case fMTime:
		n.mtimeText, ok = s.stamp(&n.mtime, nil, stamp{})
	case fATime:
		_, ok = s.stamp(&n.atime, n.mtimeText, n.mtime)
	case fCTime:
		_, ok = s.stamp(&n.ctime, n.mtimeText, n.mtime)
	case fUser:
		n.user, ok = s.strOrNull()
	case fGroup:
		n.group, ok = s.strOrNull()
	case fInode:
		n.inode, ok = s.uint(64)
	case fDeviceID:
		n.deviceID, ok = s.uint(64)
	case fSize:
		n.size, ok = s.uint(64)
	case fLinks:
		n.links, ok = s.uint(64)
	case fDevice:
		n.device, ok = s.uint(64)
	case fLinkTarget:
		n.linkTarget, ok = s.strOrNull()
	case fLinkTargetRaw:
		n.linkTargetRaw, ok = s.base64()
	case fXattrs:
		n.xattrs, n.xattrsAt, ok = s.later('[', "a list")
	case fGeneric:
		n.generic, _, ok = s.later('{', "an object")
	case fContent:
		ok = s.content(n)
	case fSubtree:
		if ok = s.null(); !ok {
			n.hasSubtree = true
			ok = s.id(&n.subtree)
		}
	case fError:
		n.message, ok = s.strOrNull()
	}
	return ok
}

// name reads a name and takes its quoting back.
func (s *scanner) name() ([]byte, bool) {
	at := s.i
	mark := len(s.arena)
	name, ok := s.str()
	if !ok {
		return nil, false
	}
	if len(s.arena) > mark && needsUnquote(name) {
		raw, err := strconv.Unquote(`"` + string(name) + `"`)
		if err != nil {
			s.i = at
			return nil, s.fail("%w %.300q: not quoted as strconv.Quote does", ErrBadName, name)
		}
		name = []byte(raw)
	}
	return name, true
}

// needsUnquote is only asked for names with JSON escapes: the others cannot hold these.
func needsUnquote(name []byte) bool {
	for _, c := range name {
		if c == '\\' || c == '"' || c == '\n' {
			return true
		}
	}
	return false
}

// nodeType reads a type. One that we do not know (old clients also wrote "") is
// Irregular: the other entries of the directory must stay readable.
func (s *scanner) nodeType() (NodeType, bool) {
	word, ok := s.strOrNull()
	if !ok {
		return 0, false
	}
	for i, name := range nodeTypeNames {
		if i > 0 && string(word) == name {
			return NodeType(i), true
		}
	}
	return Irregular, true
}

func (s *scanner) strOrNull() ([]byte, bool) {
	if s.null() {
		return nil, true
	}
	return s.str()
}

// stamp reads a time into t and returns its text. A text equal to known is known to be
// knownStamp.
func (s *scanner) stamp(t *stamp, known []byte, knownStamp stamp) ([]byte, bool) {
	if s.null() {
		return nil, true
	}
	at := s.i
	text, ok := s.str()
	if !ok {
		return nil, false
	}
	if len(known) > 0 && string(text) == string(known) {
		*t = knownStamp
		return text, true
	}
	if *t, ok = parseStamp(text); !ok {
		s.i = at
		return nil, s.fail("bad time %.80q", text)
	}
	return text, true
}

// base64 reads bytes; nil for null.
func (s *scanner) base64() ([]byte, bool) {
	if s.null() {
		return nil, true
	}
	at := s.i
	text, ok := s.str()
	if !ok {
		return nil, false
	}
	value := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(value, text)
	if err != nil {
		s.i = at
		return nil, s.failErr(err)
	}
	return value[:n], true
}

// later steps over a list or object and returns its JSON; nil for null.
func (s *scanner) later(opening byte, want string) ([]byte, int, bool) {
	if s.null() {
		return nil, 0, true
	}
	if s.peek() != opening {
		return nil, 0, s.unexpected(want)
	}
	at := s.i
	if !s.skip(0) {
		return nil, 0, false
	}
	return s.p[at:s.i], at, true
}

func (s *scanner) content(n *rawNode) bool {
	if s.null() {
		return true
	}
	if s.peek() != '[' {
		return s.unexpected("a list of ids")
	}
	n.hasContent = true
	n.ids = n.ids[:0]
	for more := s.open(']'); more; {
		n.ids = append(n.ids, blob.ID{})
		if !s.id(&n.ids[len(n.ids)-1]) {
			return false
		}
		var ok bool
		if more, ok = s.next(']'); !ok {
			return false
		}
	}
	n.content = n.ids
	return true
}

// hexValue of a byte; 0xff if it is not a lower-case hexadecimal digit.
var hexValue = func() (table [256]byte) {
	for c := range table {
		table[c] = 0xff
		switch {
		case '0' <= c && c <= '9':
			table[c] = byte(c - '0')
		case 'a' <= c && c <= 'f':
			table[c] = byte(c - 'a' + 10)
		}
	}
	return table
}()

// id reads a string of 64 hexadecimal digits.
func (s *scanner) id(id *blob.ID) bool {
	const digits = 2 * len(id)
	if s.peek() == '"' && len(s.p)-s.i >= digits+2 && s.p[s.i+digits+1] == '"' {
		text := s.p[s.i+1 : s.i+1+digits]
		var bad byte
		for k := range id {
			high, low := hexValue[text[2*k]], hexValue[text[2*k+1]]
			id[k] = high<<4 | low&15
			bad |= high | low
		}
		if bad < 16 {
			s.i += digits + 2
			return true
		}
	}
	at := s.i
	text, ok := s.str()
	if !ok {
		return false
	}
	if err := id.UnmarshalText(text); err != nil {
		s.i = at
		return s.failErr(err)
	}
	return true
}

// xattrs reads the list that n.xattrs holds. The names and values are copies.
func (s *scanner) xattrs(n *rawNode) ([]Xattr, bool) {
	if n.xattrs == nil {
		return nil, true
	}
	back, end := s.i, n.xattrsAt+len(n.xattrs)
	defer func() {
		if s.err == nil {
			s.i = back
		}
	}()
	var list []Xattr
	s.i = n.xattrsAt
	for more := s.open(']'); more; {
		x, ok := s.xattr()
		if !ok {
			return nil, false
		}
		list = append(list, x)
		if more, ok = s.next(']'); !ok {
			return nil, false
		}
	}
	if s.i != end {
		return nil, s.failErr(errors.New("list of extended attributes ends early"))
	}
	return list, true
}

func (s *scanner) xattr() (x Xattr, ok bool) {
	if s.peek() != '{' {
		return x, s.unexpected("an extended attribute")
	}
	var hasName, hasValue bool
	x.Value = []byte{}
	for more := s.open('}'); more; {
		key, ok := s.key()
		if !ok {
			return x, false
		}
		switch {
		case string(key) == "name" && !hasName:
			hasName = true
			var name []byte
			name, ok = s.strOrNull()
			x.Name = string(name)
		case string(key) == "value" && !hasValue:
			hasValue = true
			var value []byte
			if value, ok = s.base64(); value != nil {
				x.Value = value
			}
		case string(key) == "name" || string(key) == "value":
			return x, s.fail("field %q twice", key)
		default:
			ok = s.skip(0)
		}
		if !ok {
			return x, false
		}
		if more, ok = s.next('}'); !ok {
			return x, false
		}
	}
	return x, true
}
