package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"
)

// ReadPatterns reads the lines of an exclude file: white space around a line is cut, empty lines
// and those that begin with # are left out, and $NAME or ${NAME} is replaced by what getenv returns;
// $$ is a dollar sign.
func ReadPatterns(r io.Reader, getenv func(string) string) ([]string, error) {
	lines, err := readLines(r)
	if err != nil {
		return nil, err
	}
	for i, line := range lines {
		lines[i] = os.Expand(line, func(name string) string {
			if name == "$" {
				return "$"
			}
			return getenv(name)
		})
	}
	return lines, nil
}

// ReadGlobs reads a list for --files-from: lines as in ReadPatterns, without variables, each
// expanded as filepath.Glob does. Lines that match nothing are returned apart.
func ReadGlobs(r io.Reader) (targets, unmatched []string, err error) {
	lines, err := readLines(r)
	if err != nil {
		return nil, nil, err
	}
	for _, line := range lines {
		matches, err := filepath.Glob(line)
		if err != nil {
			return nil, nil, fmt.Errorf("pattern %q: %w", line, err)
		}
		if len(matches) == 0 {
			unmatched = append(unmatched, line)
		}
		targets = append(targets, matches...)
	}
	return targets, unmatched, nil
}

// ReadVerbatim reads a list for --files-from-verbatim: one path a line, taken as it is; empty lines are
// left out.
func ReadVerbatim(r io.Reader) ([]string, error) {
	text, err := readText(r)
	if err != nil {
		return nil, err
	}
	var targets []string
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSuffix(line, "\r"); line != "" {
			targets = append(targets, line)
		}
	}
	return targets, nil
}

// ReadRaw reads a list for --files-from-raw: paths that each end with a zero byte, as `find
// -print0` writes them.
func ReadRaw(r io.Reader) ([]string, error) {
	p, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if len(p) == 0 {
		return nil, nil
	}
	list, ended := strings.CutSuffix(string(p), "\x00")
	if !ended {
		return nil, errors.New("the list does not end with a zero byte: is it cut short?")
	}
	targets := strings.Split(list, "\x00")
	for i, target := range targets {
		if target == "" {
			return nil, fmt.Errorf("path number %d of the list is empty", i+1)
		}
	}
	return targets, nil
}

// readLines returns the lines that are neither empty nor comments, without white space around.
func readLines(r io.Reader) ([]string, error) {
	text, err := readText(r)
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// readText reads UTF-8, or UTF-16 with a byte order mark.
func readText(r io.Reader) (string, error) {
	p, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(p, []byte{0xEF, 0xBB, 0xBF}):
		return string(p[3:]), nil
	case bytes.HasPrefix(p, []byte{0xFF, 0xFE}):
		order = binary.LittleEndian
	case bytes.HasPrefix(p, []byte{0xFE, 0xFF}):
		order = binary.BigEndian
	default:
		return string(p), nil
	}
	if len(p)%2 != 0 {
		return "", errors.New("UTF-16 text with an odd number of bytes")
	}
	units := make([]uint16, 0, len(p)/2-1)
	for p = p[2:]; len(p) > 0; p = p[2:] {
		units = append(units, order.Uint16(p))
	}
	return string(utf16.Decode(units)), nil
}
