package cli

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"vitrine/cmd/internal/progress"
	"vitrine/repo/source"
	"vitrine/repo/source/pattern"
)

// targetFlags name what is backed up, beside the arguments.
type targetFlags struct {
	filesFrom, filesFromVerbatim, filesFromRaw []string
}

func (o *targetFlags) register(f *pflag.FlagSet) {
	f.StringArrayVar(&o.filesFrom, "files-from", nil, "read patterns of files to back up from a `file`, - for standard input (repeatable)")
	f.StringArrayVar(&o.filesFromVerbatim, "files-from-verbatim", nil, "read names of files to back up from a `file`, one a line (repeatable)")
	f.StringArrayVar(&o.filesFromRaw, "files-from-raw", nil, "read names of files to back up from a `file`, each ended by a zero byte (repeatable)")
}

func (o *targetFlags) filesFromGiven() bool {
	return len(o.filesFrom)+len(o.filesFromVerbatim)+len(o.filesFromRaw) > 0
}

// targets collects the names of all lists, and the arguments.
func (o *targetFlags) targets(a *app, args []string) ([]string, error) {
	var all []string
	globs := func(r io.Reader) ([]string, error) {
		found, unmatched, err := source.ReadGlobs(r)
		for _, pattern := range unmatched {
			a.print.Warn("pattern %q does not match any files, skipping", pattern)
		}
		return found, err
	}
	for _, list := range []struct {
		files []string
		read  func(io.Reader) ([]string, error)
	}{{o.filesFrom, globs}, {o.filesFromVerbatim, source.ReadVerbatim}, {o.filesFromRaw, source.ReadRaw}} {
		for _, name := range list.files {
			found, err := readList(a, name, list.read)
			if err != nil {
				return nil, fmt.Errorf("read the list of files %s: %w", name, err)
			}
			all = append(all, found...)
		}
	}
	return append(all, args...), nil
}

// readList reads a list from a file, or from standard input when it is called "-".
func readList(a *app, name string, read func(io.Reader) ([]string, error)) ([]string, error) {
	if name == "-" {
		return read(a.stdin)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return read(f)
}

// absolute makes the names absolute; one that cannot be made so is left as it is.
func absolute(names []string) []string {
	out := slices.Clone(names)
	for i, name := range out {
		if abs, err := filepath.Abs(name); err == nil {
			out[i] = abs
		}
	}
	return out
}

// linkHint tells of the first target that is a symbolic link to a directory: the link is saved, as by restic, and seldom meant. ""
// when there is none, or another target has the directory.
func linkHint(targets []string) string {
	targets = absolute(targets)
	for _, target := range targets {
		if info, err := os.Lstat(target); err != nil || info.Mode().Type() != fs.ModeSymlink {
			continue
		}
		dir, err := filepath.EvalSymlinks(target)
		if err != nil {
			continue
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			continue
		}
		saved := func(by string) bool { return by == dir || strings.HasPrefix(dir, strings.TrimSuffix(by, "/")+"/") }
		if !slices.ContainsFunc(targets, saved) {
			return fmt.Sprintf("%s is a symbolic link, and saved as such; to save what is in the directory, name that: %s",
				progress.Printable(target), progress.Printable(dir))
		}
	}
	return ""
}

// excludeFlags say what is left out of a backup.
type excludeFlags struct {
	excludes, iexcludes         []string
	excludeFiles, iexcludeFiles []string
	ifPresent                   []string
	caches                      bool
	largerThan                  string
	oneFileSystem               bool
}

func (o *excludeFlags) register(f *pflag.FlagSet) {
	f.StringArrayVarP(&o.excludes, "exclude", "e", nil, "leave out what matches the `pattern` (repeatable)")
	f.StringArrayVar(&o.iexcludes, "iexclude", nil, "as --exclude, but upper and lower case of the `pattern` are equal (repeatable)")
	f.StringArrayVar(&o.excludeFiles, "exclude-file", nil, "read patterns to leave out from a `file` (repeatable)")
	f.StringArrayVar(&o.iexcludeFiles, "iexclude-file", nil, "as --exclude-file, but upper and lower case of the patterns in the `file` are equal (repeatable)")
	f.StringArrayVar(&o.ifPresent, "exclude-if-present", nil, "leave out the content of directories with a file of this name, and if a header is given only when it begins so: `filename[:header]` (repeatable)")
	f.BoolVar(&o.caches, "exclude-caches", false, "leave out the content of directories with a CACHEDIR.TAG (https://bford.info/cachedir/)")
	f.StringVar(&o.largerThan, "exclude-larger-than", "", "leave out files above this `size` (suffixes k, m, g, t)")
	f.BoolVarP(&o.oneFileSystem, "one-file-system", "x", false, "stay on the file systems of the targets")
}

// filter makes the filter of the flags.
func (o *excludeFlags) filter(getenv func(string) string) (*source.Filter, error) {
	filter := &source.Filter{OneFileSystem: o.oneFileSystem}
	lists, err := compileLists(o.excludes, o.excludeFiles, o.iexcludes, o.iexcludeFiles, getenv)
	if err != nil {
		return nil, fmt.Errorf("exclude: %w", err)
	}
	filter.Patterns = lists
	if o.caches {
		filter.Tags = append(filter.Tags, source.CacheTag)
	}
	for _, s := range o.ifPresent {
		tag, err := source.ParseTagFile(s)
		if err != nil {
			return nil, fmt.Errorf("--exclude-if-present: %w", err)
		}
		filter.Tags = append(filter.Tags, tag)
	}
	if o.largerThan != "" {
		if filter.MaxFileBytes, err = source.ParseSize(o.largerThan); err != nil {
			return nil, fmt.Errorf("--exclude-larger-than: %w", err)
		}
	}
	return filter, nil
}

// compileLists makes lists of the patterns that are given and of those in files: one of those that tell
// upper from lower case, one of those that do not. A list without patterns is left out.
func compileLists(given, files, folded, foldedFiles []string, getenv func(string) string) ([]*pattern.List, error) {
	var lists []*pattern.List
	for _, c := range []struct {
		given, files []string
		fold         bool
	}{{given, files, false}, {folded, foldedFiles, true}} {
		patterns, err := readPatternFiles(c.given, c.files, getenv)
		if err != nil {
			return nil, err
		}
		if len(patterns) == 0 {
			continue
		}
		list, err := pattern.Compile(patterns, c.fold)
		if err != nil {
			return nil, err
		}
		lists = append(lists, list)
	}
	return lists, nil
}

// readPatternFiles appends the patterns in the files to those given.
func readPatternFiles(given, files []string, getenv func(string) string) ([]string, error) {
	all := slices.Clone(given)
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read the file of patterns: %w", err)
		}
		patterns, err := source.ReadPatterns(f, getenv)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("read the file of patterns %s: %w", name, err)
		}
		all = append(all, patterns...)
	}
	return all, nil
}
