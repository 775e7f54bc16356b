package accept

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// manner says how standard output is compared.
type manner int

const (
	asUsual manner = iota
	exactly        // line by line
	asSet          // lines in any order: restic's is by chance
	byWords        // what scripts look for, see phrases
	asTar          // the entries of an archive
	asZip
)

// usually is how the text of a command is compared when a case does not say. What is not here is compared by words.
var usually = map[string]manner{
	"ls": exactly, "cat": exactly, "list": asSet, "dump": exactly, "find": exactly, "diff": exactly, "snapshots": exactly, "stats": exactly,
}

// phrases are what scripts look for in the output. Where restic prints one, vitrine must.
var phrases = []string{
	// backup
	`snapshot [0-9a-f]{8} saved`, `using parent snapshot [0-9a-f]{8}`, `no parent snapshot found`, `processed \d+ files, `, `does not exist, skipping`,
	`Files: +\d+ new, +\d+ changed, +\d+ unmodified`, `Dirs: +\d+ new, +\d+ changed, +\d+ unmodified`, `Added to the repo`, `Would add to the repo`,
	// init
	`created restic repository [0-9a-f]{10} at `, `config file already exists`,
	// forget and prune
	`keep \d+ snapshots:`, `remove \d+ snapshots:`, `Applying Policy: `, `snapshots for \(`, `to delete: `, `this removes: `, `total prune: `,
	`remaining: `, `unused size after prune`, `Would have (?:removed|made)`, `no policy was specified`,
	// others
	`no errors were found`, `successfully removed`, `saved new key`, `removed key`, `modified (?:tags on )?\d+ snapshots`, `no snapshots were modified`,
	`restoring <Snapshot|restoring snapshot`, `Ignoring "`, `skipping source snapshot`, `snapshot [0-9a-f]{8} saved`, `found \d+ unreferenced roots`,
	`applying migration \S+`, `migration \S+: success`, `available migrations`,
	// what went wrong
	`Fatal: `, `unknown command`, `unknown flag`, `wrong password or no key found`, `unable to create lock in backend`, `is already locked`,
	`Is there a repository at the following location\?`,
}

// normaliser makes the outputs of two programs comparable: what was made by the run itself, IDs, times and durations, is
// replaced by a word for it. Nothing is left out.
type normaliser struct {
	known map[string]bool // IDs that are no news
	dir   string
}

var (
	idText      = regexp.MustCompile(`\b(?:[0-9a-f]{64}|[0-9a-f]{10}|[0-9a-f]{8})\b`)
	timeText    = regexp.MustCompile(`\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d| [+-]\d{4} [A-Z]+)?`)
	programText = regexp.MustCompile(`^(restic|vitrine) \S+$`)
	durations   = map[string]bool{"total_duration": true, "duration": true, "seconds_elapsed": true, "seconds_remaining": true}
)

// text replaces IDs and times of the run in a text, and the program's own directory. numbers holds the new IDs met so far.
func (n normaliser) text(s *side, numbers map[string]string, text string) string {
	text = strings.ReplaceAll(text, s.private, "PRIVATE")
	text = idText.ReplaceAllStringFunc(text, func(id string) string {
		number := strings.Trim(id, "0123456789") == "" && len(id) < 64 && !s.names(id)
		if n.known[id] || number && numbers[id[:8]] == "" {
			return id
		}
		if numbers[id[:8]] == "" {
			numbers[id[:8]] = fmt.Sprintf("new-%d", len(numbers)+1)
		}
		return fmt.Sprintf("%s-of-%d", numbers[id[:8]], len(id))
	})
	return timeText.ReplaceAllStringFunc(text, func(at string) string {
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999 -0700 MST", "2006-01-02 15:04:05"} {
			if when, err := time.ParseInLocation(layout, at, time.Local); err == nil {
				if !when.Before(s.began) {
					return "NOW"
				}
				return when.UTC().Format(time.RFC3339Nano)
			}
		}
		return at
	})
}

// names tells whether a file of the repository begins so. One ID in forty has digits only in its first eight.
func (s *side) names(id string) bool {
	return slices.ContainsFunc(s.files, func(file string) bool { return strings.HasPrefix(filepath.Base(file), id) })
}

// output compares what the two printed.
func (n normaliser) output(c dropCase, restic, vitrine *side) []string {
	a, b := restic.result.stdout, vitrine.result.stdout
	how := c.how
	words := strings.Fields(c.args)
	if how == asUsual {
		how = byWords
		if u, ok := usually[words[0]]; ok {
			how = u
		}
		if slices.Contains(words, "--json") || words[0] == "cat" {
			_, errA := parseJSON(a)
			_, errB := parseJSON(b)
			if errA == nil && (errB == nil || strings.TrimSpace(a) != "") {
				return n.json("output", a, b, restic, vitrine)
			}
		}
	}
	switch how {
	case asTar:
		return diffLines("archive", tarEntries(a), tarEntries(b))
	case asZip:
		return diffLines("archive", zipEntries(a), zipEntries(b))
	case exactly, asSet:
		lines := func(s *side, text string) []string {
			all := strings.Split(strings.TrimRight(n.text(s, map[string]string{}, text), "\n"), "\n")
			if how == asSet {
				slices.Sort(all)
			}
			return all
		}
		return diffLines("output", lines(restic, a), lines(vitrine, b))
	}
	var found []string
	for _, phrase := range phrases {
		re := regexp.MustCompile(phrase)
		said := re.FindString(restic.result.stdout + restic.result.stderr)
		if said != "" && !re.MatchString(vitrine.result.stdout+vitrine.result.stderr) {
			found = append(found, fmt.Sprintf("words: vitrine does not say %q", said))
		}
	}
	return found
}

// parseJSON reads a stream of JSON values.
func parseJSON(text string) ([]any, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var all []any
	for {
		var v any
		if err := d.Decode(&v); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
}

// json compares two streams of JSON values, and tells of each field that differs.
func (n normaliser) json(what, a, b string, restic, vitrine *side) []string {
	values := func(s *side, text string) (any, error) {
		all, err := parseJSON(text)
		if err != nil {
			return nil, err
		}
		numbers := map[string]string{}
		return n.stream(s, numbers, all), nil
	}
	va, errA := values(restic, a)
	vb, errB := values(vitrine, b)
	if errA != nil || errB != nil {
		return []string{fmt.Sprintf("%s: no JSON: restic %v, vitrine %v", what, errA, errB)}
	}
	var found []string
	diffValues(what, va, vb, &found)
	slices.Sort(found)
	return slices.Compact(found) // the elements of a list have one path
}

// stream normalises the values, of which those that tell of progress become one: how many there are, and of what, is a
// matter of time.
func (n normaliser) stream(s *side, numbers map[string]string, all []any) []any {
	var out []any
	var files []any
	for _, v := range all {
		m, ok := v.(map[string]any)
		switch {
		case ok && m["action"] == "scan_finished": // it is told when the scan is over before the backup
		case ok && m["message_type"] == "status":
			for _, key := range slices.Sorted(maps.Keys(m)) {
				if !statusFields[key] {
					out = append(out, "status message with the unknown field "+key)
				}
			}
		case ok && m["message_type"] == "verbose_status":
			files = append(files, n.value(s, numbers, "", v))
		default:
			out = append(out, n.value(s, numbers, "", v))
		}
	}
	// Files are told of in the order in which they are done.
	item := func(v any) string { return fmt.Sprint(v.(map[string]any)["item"]) }
	slices.SortStableFunc(files, func(x, y any) int { return strings.Compare(item(x), item(y)) })
	return append(files, out...)
}

// inAnyOrder are fields of what comes in an order that restic leaves to chance (groups of snapshots) or has changed (what find
// finds in snapshots).
var inAnyOrder = []string{"group_key", "keep", "hits", "object_type"}

// statusFields are the fields of restic's messages on progress.
var statusFields = map[string]bool{
	"message_type": true, "seconds_elapsed": true, "seconds_remaining": true, "percent_done": true, "total_files": true, "files_done": true,
	"total_bytes": true, "bytes_done": true, "error_count": true, "current_files": true, "action": true,
}

func (n normaliser) value(s *side, numbers map[string]string, key string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			out[k] = n.value(s, numbers, k, v[k])
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = n.value(s, numbers, "", v[i])
		}
		if len(out) > 0 {
			if m, ok := out[0].(map[string]any); ok && slices.ContainsFunc(inAnyOrder, func(k string) bool { return m[k] != nil }) {
				key := func(v any) string {
					m := v.(map[string]any)
					return fmt.Sprint(m["snapshot"], m["path"], m["id"], m["group_key"], m["host"], m["tags"], m["paths"])
				}
				slices.SortStableFunc(out, func(x, y any) int { return strings.Compare(key(x), key(y)) })
			}
		}
		return out
	case string:
		if programText.MatchString(v) {
			return "PROGRAM"
		}
		if key == "snapshot_id" && len(v) == 8 {
			v = strings.NewReplacer("0", "a", "1", "b").Replace(v) // one without a letter is no number
		}
		return n.text(s, numbers, v)
	case json.Number:
		if durations[key] {
			return "DURATION"
		}
	}
	return v
}

// diffValues tells of each place at which two values differ. Elements of lists share a path.
func diffValues(path string, a, b any, found *[]string) {
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			all := maps.Clone(x)
			maps.Copy(all, y)
			for _, k := range slices.Sorted(maps.Keys(all)) {
				_, inA := x[k]
				_, inB := y[k]
				switch {
				case !inA:
					*found = append(*found, fmt.Sprintf("%s.%s: only vitrine has it", path, k))
				case !inB:
					*found = append(*found, fmt.Sprintf("%s.%s: only restic has it", path, k))
				default:
					diffValues(path+"."+k, x[k], y[k], found)
				}
			}
			return
		}
	case []any:
		if y, ok := b.([]any); ok {
			if len(x) != len(y) {
				*found = append(*found, fmt.Sprintf("%s: restic has %d of them, vitrine %d: %v and %v", path, len(x), len(y), clip(fmt.Sprint(x)), clip(fmt.Sprint(y))))
				return
			}
			for i := range x {
				diffValues(path+"[]", x[i], y[i], found)
			}
			return
		}
	}
	if fmt.Sprintf("%T %v", a, a) != fmt.Sprintf("%T %v", b, b) {
		*found = append(*found, fmt.Sprintf("%s: restic %v, vitrine %v", path, a, b))
	}
}

// diffLines tells of the lines that only one of them has, and when there are none, of another order.
func diffLines(what string, a, b []string) []string {
	var found []string
	only := func(who string, x, y []string) {
		left := slices.Clone(y)
		for _, line := range x {
			if i := slices.Index(left, line); i >= 0 {
				left = slices.Delete(left, i, i+1)
			} else if len(found) < 20 {
				found = append(found, fmt.Sprintf("%s: only %s: %s", what, who, line))
			}
		}
	}
	only("restic", a, b)
	only("vitrine", b, a)
	if len(found) == 0 && !slices.Equal(a, b) {
		found = append(found, what+": another order")
	}
	return found
}

// tree describes what lies below a directory.
func (n normaliser) tree(t *testing.T, dir string) []string {
	var all []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		content := ""
		if d.Type().IsRegular() {
			bytes, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			content = fmt.Sprintf(" %x", sha256.Sum256(bytes))
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		at := info.ModTime().UTC().Format(time.RFC3339Nano)
		if time.Since(info.ModTime()) < time.Hour {
			at = "NOW"
		}
		all = append(all, fmt.Sprintf("%s %v %s%s", strings.TrimPrefix(p, dir), info.Mode(), at, content))
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return all
}

func tarEntries(text string) []string {
	var all []string
	for r := tar.NewReader(strings.NewReader(text)); ; {
		h, err := r.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				all = append(all, err.Error())
			}
			return all
		}
		content, err := io.ReadAll(r)
		all = append(all, fmt.Sprintf("%s %c %o %d %d %s %v %q %x %v", h.Name, h.Typeflag, h.Mode, h.Uid, h.Size, h.Linkname, h.ModTime.UTC().Truncate(time.Second), h.Uname, sha256.Sum256(content), err))
	}
}

func zipEntries(text string) []string {
	r, err := zip.NewReader(bytes.NewReader([]byte(text)), int64(len(text)))
	if err != nil {
		return []string{err.Error()}
	}
	var all []string
	for _, f := range r.File {
		all = append(all, fmt.Sprintf("%s %v %d %08x %v", f.Name, f.Mode(), f.UncompressedSize64, f.CRC32, f.Modified.UTC()))
	}
	return all
}
