package source

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"vitrine/repo/snapshot"
	"vitrine/repo/source/pattern"
)

// Filter leaves things out of a backup. The zero value and nil keep all. It is not changed by
// its use and safe for parallel use.
type Filter struct {
	Patterns      []*pattern.List // what any of them excludes is left out
	Tags          []TagFile       // directories with such a file keep nothing but that file
	MaxFileBytes  int64           // longer regular files are left out; 0 means no limit
	OneFileSystem bool            // stay on the file systems of the targets
}

// TagFile marks a directory whose content is not worth a backup.
type TagFile struct {
	Name   string
	Header string // the file must begin with it
}

// CacheTag is the tag of the Cache Directory Tagging Standard.
var CacheTag = TagFile{Name: "CACHEDIR.TAG", Header: "Signature: 8a477f597d28d172789f06886806bc55"}

// ParseTagFile reads "name" or "name:header".
func ParseTagFile(s string) (TagFile, error) {
	name, header, _ := strings.Cut(s, ":")
	if name == "" || strings.Contains(name, "/") {
		return TagFile{}, fmt.Errorf("tag file %q: want name[:header] with a name that has no slash", s)
	}
	return TagFile{name, header}, nil
}

// ParseSize reads a number of bytes with an optional suffix k, m, g or t (powers of 1024).
func ParseSize(s string) (int64, error) {
	digits, shift := s, 0
	if s != "" {
		if i := strings.IndexByte("kmgt", s[len(s)-1]|0x20); i >= 0 {
			digits, shift = s[:len(s)-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > 1<<62>>shift {
		return 0, fmt.Errorf("size %q: want a number of bytes, with k, m, g or t behind it for larger units", s)
	}
	return n << shift, nil
}

// Position is what the patterns have seen of a directory's absolute path.
type Position []pattern.State

// At returns the position of a cleaned absolute path.
func (f *Filter) At(abs string) Position {
	if f == nil {
		return nil
	}
	p := make(Position, len(f.Patterns))
	for i, l := range f.Patterns {
		p[i] = l.Walk(abs)
	}
	return p
}

// Enter returns the position of the directory called name at p.
func (f *Filter) Enter(p Position, name string) Position {
	if len(p) == 0 {
		return nil
	}
	child := make(Position, len(p))
	for i := range p {
		child[i] = f.Patterns[i].Enter(p[i], name)
	}
	return child
}

// ExcludesName reports whether the patterns exclude the entry called name at p.
func (f *Filter) ExcludesName(p Position, name string) bool {
	for i := range p {
		if f.Patterns[i].ExcludedIn(p[i], name) {
			return true
		}
	}
	return false
}

// ExcludesSize reports whether the file is too large.
func (f *Filter) ExcludesSize(st *Stat) bool {
	return f != nil && f.MaxFileBytes > 0 && NodeType(st) == snapshot.File && st.Size > f.MaxFileBytes
}

// StaysOnDevice reports whether ExcludesDevice can exclude anything.
func (f *Filter) StaysOnDevice() bool { return f != nil && f.OneFileSystem }

// ExcludesDevice reports whether an entry is on another file system than its target, whose
// device is allowed. The directory that something is mounted on stays, as an empty one;
// dirDevice is that of the directory which holds the entry.
func (f *Filter) ExcludesDevice(st *Stat, allowed, dirDevice uint64) bool {
	if !f.StaysOnDevice() || uint64(st.Dev) == allowed {
		return false
	}
	return NodeType(st) != snapshot.Dir || dirDevice != allowed
}

// Kept says which entries of a directory its tag files leave. The zero value keeps all.
type Kept struct {
	tagged bool
	name   string // the only one that stays; "" when tags of different names exclude each other
}

// Keeps reports whether the entry stays.
func (k Kept) Keeps(name string) bool { return !k.tagged || k.name == name && name != "" }

// Tagged looks for tag files in d. When entries, sorted, are at hand they save system calls;
// nil asks the file system. A tag that cannot be read marks nothing and is told by the error.
func (f *Filter) Tagged(d *Dir, entries []Entry) (Kept, error) {
	var kept Kept
	var errs error
	if f == nil {
		return kept, nil
	}
	for _, tag := range f.Tags {
		marks, err := tag.marks(d, entries)
		errs = errors.Join(errs, err)
		switch {
		case !marks:
		case !kept.tagged:
			kept = Kept{true, tag.Name}
		case kept.name != tag.Name:
			kept.name = ""
		}
	}
	return kept, errs
}

func (tag TagFile) marks(d *Dir, entries []Entry) (bool, error) {
	if entries != nil {
		_, found := slices.BinarySearchFunc(entries, tag.Name, func(e Entry, name string) int {
			return strings.Compare(e.Name, name)
		})
		if !found {
			return false, nil
		}
	} else {
		var st Stat
		if err := d.Stat(tag.Name, &st); errors.Is(err, unix.ENOENT) {
			return false, nil
		} else if err != nil {
			return false, fmt.Errorf("look for tag file: %w", err)
		}
	}
	if tag.Header == "" {
		return true, nil
	}
	// A link to a tag is a tag, so this one is followed.
	fd, err := openat(d.fd, tag.Name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC)
	if err != nil {
		return false, fmt.Errorf("read tag file: %w", d.fail("open", tag.Name, err))
	}
	f := &File{fd, d.path, tag.Name}
	defer f.Close()
	head := make([]byte, len(tag.Header))
	if _, err := io.ReadFull(f, head); err != nil {
		return false, fmt.Errorf("read tag file %s: %w", join(d.path, tag.Name), err)
	}
	return string(head) == tag.Header, nil
}
