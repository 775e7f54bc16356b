package snapshot

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of unknown fields, and so the stack.
const maxDepth = 200

// scanner reads JSON from p. Its methods report success; after a false, err says why and
// the scanner is of no more use. Byte slices it returns alias p or arena: they live until
// the arena is reset.
type scanner struct {
	p     []byte
	i     int    // next byte
	arena []byte // strings that had escapes; views stay good when it grows
	err   error
	errAt int // offset of err
}

func (s *scanner) fail(format string, args ...any) bool {
	return s.failErr(fmt.Errorf(format, args...))
}

func (s *scanner) failErr(err error) bool {
	if s.err == nil {
		s.err, s.errAt = err, min(s.i, len(s.p))
	}
	return false
}

func (s *scanner) unexpected(want string) bool {
	if s.i >= len(s.p) {
		return s.failErr(errors.New("unexpected end, want " + want))
	}
	return s.fail("unexpected %q, want %s", s.p[s.i], want)
}

// peek goes to the next byte that is not white space and returns it; 0 at the end.
func (s *scanner) peek() byte {
	if s.i < len(s.p) {
		if c := s.p[s.i]; c > ' ' {
			return c
		}
	}
	return s.peekSlow()
}

func (s *scanner) peekSlow() byte {
	for ; s.i < len(s.p); s.i++ {
		switch c := s.p[s.i]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// open steps over the bracket that begins an object or list, which is there already.
// more reports whether an element follows.
func (s *scanner) open(closing byte) (more bool) {
	s.i++
	if s.peek() == closing {
		s.i++
		return false
	}
	return true
}

// next steps over what follows an element: a comma, then more is true, or the closing
// bracket.
func (s *scanner) next(closing byte) (more, ok bool) {
	switch s.peek() {
	case ',':
		s.i++
		return true, true
	case closing:
		s.i++
		return false, true
	}
	return false, s.unexpected("',' or '" + string(rune(closing)) + "'")
}

// key reads the name of an object's member and the colon.
func (s *scanner) key() ([]byte, bool) {
	key, ok := s.str()
	if !ok {
		return nil, false
	}
	if s.peek() != ':' {
		return nil, s.unexpected("':'")
	}
	s.i++
	return key, true
}

// null reads the literal null if it comes next.
func (s *scanner) null() bool {
	if s.peek() != 'n' || len(s.p)-s.i < 4 || string(s.p[s.i:s.i+4]) != "null" {
		return false
	}
	s.i += 4
	return true
}

// literal are the bytes that stand for themselves in a JSON string.
var literal = func() (table [256]bool) {
	for c := range table {
		table[c] = c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\'
	}
	return table
}()

// str reads a string. Bytes that are not UTF-8 become U+FFFD, as in encoding/json.
func (s *scanner) str() ([]byte, bool) {
	if s.peek() != '"' {
		return nil, s.unexpected("a string")
	}
	start := s.i + 1
	rest := s.p[start:]
	for n, c := range rest {
		if literal[c] {
			continue
		}
		if c == '"' {
			s.i = start + n + 1
			return rest[:n], true
		}
		return s.strSlow(n)
	}
	s.i = len(s.p)
	return nil, s.unexpected("the end of a string")
}

// strSlow reads the string at s.i, whose first n bytes are literal.
func (s *scanner) strSlow(n int) ([]byte, bool) {
	begin := len(s.arena)
	s.i++
	s.arena = append(s.arena, s.p[s.i:s.i+n]...)
	s.i += n
	for s.i < len(s.p) {
		c := s.p[s.i]
		switch {
		case literal[c]:
			s.arena = append(s.arena, c)
			s.i++
		case c == '"':
			s.i++
			return s.arena[begin:len(s.arena):len(s.arena)], true
		case c == '\\':
			if !s.escape() {
				return nil, false
			}
		case c < ' ':
			return nil, s.fail("control byte %#02x in a string", c)
		default:
			r, size := utf8.DecodeRune(s.p[s.i:])
			s.arena = utf8.AppendRune(s.arena, r)
			s.i += size
		}
	}
	return nil, s.unexpected("the end of a string")
}

// escape appends what the escape sequence at s.i stands for to the arena.
func (s *scanner) escape() bool {
	if s.i+1 >= len(s.p) {
		s.i = len(s.p)
		return s.unexpected("the rest of an escape sequence")
	}
	c := s.p[s.i+1]
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		r, ok := s.hex4(s.i)
		if !ok {
			return s.fail("bad escape sequence")
		}
		s.i += 6
		if utf16.IsSurrogate(r) {
			low, ok := s.hex4(s.i)
			if r = utf16.DecodeRune(r, low); ok && r != utf8.RuneError {
				s.i += 6
			} else {
				r = utf8.RuneError
			}
		}
		s.arena = utf8.AppendRune(s.arena, r)
		return true
	default:
		return s.fail("bad escape sequence")
	}
	s.arena = append(s.arena, c)
	s.i += 2
	return true
}

// hex4 reads \uXXXX at offset i.
func (s *scanner) hex4(i int) (rune, bool) {
	if len(s.p)-i < 6 || s.p[i] != '\\' || s.p[i+1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range s.p[i+2 : i+6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// uint reads an unsigned integer of at most that many bits; null is 0.
func (s *scanner) uint(bits uint) (uint64, bool) {
	if c := s.peek(); c < '0' || c > '9' {
		if s.null() {
			return 0, true
		}
		return 0, s.unexpected("an unsigned integer")
	}
	start := s.i
	var v uint64
	for s.i < len(s.p) {
		c := s.p[s.i] - '0'
		if c > 9 {
			break
		}
		v = v*10 + uint64(c)
		s.i++
	}
	n := s.i - start
	if n > 1 && s.p[start] == '0' {
		s.i = start
		return 0, s.fail("number with leading zeros")
	}
	if n > 19 { // may have overflowed
		var err error
		if v, err = strconv.ParseUint(string(s.p[start:min(s.i, start+21)]), 10, 64); err != nil {
			s.i = start
			return 0, s.fail("number out of range")
		}
	}
	if v>>(bits-1)>>1 != 0 {
		s.i = start
		return 0, s.fail("number out of range: want %d bits", bits)
	}
	return v, true
}

// skip reads a value of any kind and drops it.
func (s *scanner) skip(depth int) bool {
	if depth > maxDepth {
		return s.fail("nested deeper than %d", maxDepth)
	}
	switch c := s.peek(); c {
	case '{':
		for more := s.open('}'); more; {
			if _, ok := s.key(); !ok || !s.skip(depth+1) {
				return false
			}
			var ok bool
			if more, ok = s.next('}'); !ok {
				return false
			}
		}
		return true
	case '[':
		for more := s.open(']'); more; {
			if !s.skip(depth + 1) {
				return false
			}
			var ok bool
			if more, ok = s.next(']'); !ok {
				return false
			}
		}
		return true
	case '"':
		keep := len(s.arena)
		_, ok := s.str()
		s.arena = s.arena[:keep]
		return ok
	case 't', 'f', 'n':
		for _, word := range [...]string{"true", "false", "null"} {
			if len(s.p)-s.i >= len(word) && string(s.p[s.i:s.i+len(word)]) == word {
				s.i += len(word)
				return true
			}
		}
		return s.unexpected("a value")
	default:
		return s.skipNumber()
	}
}

func (s *scanner) skipNumber() bool {
	if s.i < len(s.p) && s.p[s.i] == '-' {
		s.i++
	}
	if s.i < len(s.p) && s.p[s.i] == '0' {
		s.i++
	} else if !s.digits() {
		return s.unexpected("a value")
	}
	if s.i < len(s.p) && s.p[s.i] == '.' {
		s.i++
		if !s.digits() {
			return s.unexpected("a digit")
		}
	}
	if s.i < len(s.p) && s.p[s.i]|0x20 == 'e' {
		s.i++
		if s.i < len(s.p) && (s.p[s.i] == '+' || s.p[s.i] == '-') {
			s.i++
		}
		if !s.digits() {
			return s.unexpected("a digit")
		}
	}
	return true
}

// digits steps over digits and reports whether there was one.
func (s *scanner) digits() bool {
	start := s.i
	for s.i < len(s.p) && s.p[s.i]-'0' <= 9 {
		s.i++
	}
	return s.i > start
}
