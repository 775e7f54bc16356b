package indexfile

import (
	"encoding/json"
	"fmt"
)

// maxDepth is how many lists and objects may be nested in a field that is skipped. Real index
// files nest nothing there; recursion must have an end.
const maxDepth = 64

// scanner walks over JSON text. Its methods read one thing each, white space before it
// included, and leave at behind it. It accepts what encoding/json accepts.
type scanner struct {
	text []byte
	at   int
}

func (s *scanner) corrupt(what string) error {
	return fmt.Errorf("%w: byte %d: %s", ErrCorrupt, s.at, what)
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\n', '\t', '\r':
			s.at++
		default:
			return
		}
	}
}

// open reads the bracket that begins a list or an object.
func (s *scanner) open(bracket byte) error {
	s.space()
	if s.at >= len(s.text) || s.text[s.at] != bracket {
		return s.corrupt("want " + string(rune(bracket)))
	}
	s.at++
	return nil
}

// next reads what stands before an element: nothing before the first, else a comma. It reports
// false when it read the closing bracket instead.
func (s *scanner) next(first bool, closing byte) (bool, error) {
	s.space()
	if s.at >= len(s.text) {
		return false, s.corrupt("ends too early")
	}
	switch c := s.text[s.at]; {
	case c == closing:
		s.at++
		return false, nil
	case first:
		return true, nil
	case c == ',':
		s.at++
		return true, nil
	}
	return false, s.corrupt("want a comma or " + string(rune(closing)))
}

// key reads a string and the colon behind it.
func (s *scanner) key() ([]byte, error) {
	key, err := s.string()
	if err != nil {
		return nil, err
	}
	s.space()
	if s.at >= len(s.text) || s.text[s.at] != ':' {
		return nil, s.corrupt("want a colon")
	}
	s.at++
	return key, nil
}

// string reads a string and returns its meaning, which aliases the text if there is no escape
// in it.
func (s *scanner) string() ([]byte, error) {
	s.space()
	if s.at >= len(s.text) || s.text[s.at] != '"' {
		return nil, s.corrupt("want a string")
	}
	start := s.at
	escaped := false
	for i := start + 1; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '"':
			s.at = i + 1
			if escaped {
				return s.unescape(start)
			}
			return s.text[start+1 : i], nil
		case c == '\\':
			escaped = true
			i++ // whatever is escaped does not end the string; unescape judges it
		case c < ' ':
			s.at = i
			return nil, s.corrupt("control character in a string")
		}
	}
	s.at = len(s.text)
	return nil, s.corrupt("string has no end")
}

// unescape takes the slow way for a string that ends before s.at: nobody escapes what an
// index file consists of.
func (s *scanner) unescape(start int) ([]byte, error) {
	var meaning string
	if err := json.Unmarshal(s.text[start:s.at], &meaning); err != nil {
		s.at = start
		return nil, s.corrupt("string with a bad escape")
	}
	return []byte(meaning), nil
}

// skip reads any value.
func (s *scanner) skip(depth int) error {
	s.space()
	if s.at >= len(s.text) {
		return s.corrupt("ends too early")
	}
	switch c := s.text[s.at]; c {
	case '{', '[':
		if depth == 0 {
			return s.corrupt("nested too deeply")
		}
		return s.skipNested(c, depth-1)
	case '"':
		_, err := s.string()
		return err
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	return s.skipNumber()
}

func (s *scanner) skipNested(bracket byte, depth int) error {
	if err := s.open(bracket); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := s.next(first, bracket+2) // in ASCII, ] is [+2 and } is {+2
		if err != nil || !more {
			return err
		}
		if bracket == '{' {
			if _, err := s.key(); err != nil {
				return err
			}
		}
		if err := s.skip(depth); err != nil {
			return err
		}
	}
}

func (s *scanner) word(w string) error {
	if len(s.text)-s.at < len(w) || string(s.text[s.at:s.at+len(w)]) != w {
		return s.corrupt("want " + w)
	}
	s.at += len(w)
	return nil
}

// skipNumber reads -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?
func (s *scanner) skipNumber() error {
	s.accept('-', '-')
	switch {
	case s.accept('0', '0'):
	case s.digits() == 0:
		return s.corrupt("want a value")
	}
	if s.accept('.', '.') && s.digits() == 0 {
		return s.corrupt("number ends in a dot")
	}
	if s.accept('e', 'E') {
		s.accept('+', '-')
		if s.digits() == 0 {
			return s.corrupt("number without an exponent")
		}
	}
	return nil
}

// accept reads one byte if it is a or b.
func (s *scanner) accept(a, b byte) bool {
	if s.at < len(s.text) && (s.text[s.at] == a || s.text[s.at] == b) {
		s.at++
		return true
	}
	return false
}

// digits reads digits and returns how many there were.
func (s *scanner) digits() int {
	start := s.at
	for s.at < len(s.text) && isDigit(s.text[s.at]) {
		s.at++
	}
	return s.at - start
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
