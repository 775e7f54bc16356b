// Package shellwords splits command lines that a person has written where no shell is.
package shellwords

import (
	"errors"
	"fmt"
	"strings"
)

// Split splits as a POSIX shell does: with quotes and backslashes, and nothing is replaced.
func Split(s string) ([]string, error) {
	var all []string
	var word strings.Builder
	in := false // in a word, which may be empty: ''
	for i := 0; i < len(s); i++ {
		switch b := s[i]; b {
		case ' ', '\t', '\n':
			if in {
				all = append(all, word.String())
				word.Reset()
				in = false
			}
		case '\'', '"':
			in = true
			end := closing(s, i)
			if end < 0 {
				return nil, fmt.Errorf("the quote %c is not closed", b)
			}
			for i++; i < end; i++ {
				if b == '"' && s[i] == '\\' && strings.IndexByte(`"\$`+"`", s[i+1]) >= 0 {
					i++
				}
				word.WriteByte(s[i])
			}
		case '\\':
			if i++; i == len(s) {
				return nil, errors.New("nothing follows the last backslash")
			}
			in = true
			word.WriteByte(s[i])
		default:
			in = true
			word.WriteByte(b)
		}
	}
	if in {
		all = append(all, word.String())
	}
	return all, nil
}

// closing returns where the quote that begins at s[at] ends, or -1.
func closing(s string, at int) int {
	for i := at + 1; i < len(s); i++ {
		if s[i] == s[at] {
			return i
		}
		if s[i] == '\\' && s[at] == '"' {
			i++
		}
	}
	return -1
}
