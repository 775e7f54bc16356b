package dump_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"vitrine/repo/dump"
)

const partial = ".vitrine-partial"

// What a dump left behind that was killed is replaced, whether the target is there or not.
func TestLeftover(t *testing.T) {
	for _, old := range []bool{false, true} {
		dir := t.TempDir()
		if old {
			check(t, os.WriteFile(dir+"/x", []byte("old"), 0o640))
		}
		check(t, os.WriteFile(dir+"/x"+partial, []byte("more than is written now"), 0o600))
		check(t, dump.ToFile(dir+"/x", words))
		if got := content(t, dir+"/x"); got != "words" || names(t, dir) != "x" {
			t.Errorf("old %t: %q, and there are %s", old, got, names(t, dir))
		}
	}
}

// A dump at work is not disturbed: the other one ends with an error, and leaves the target alone.
func TestBusy(t *testing.T) {
	for _, old := range []bool{false, true} {
		dir := t.TempDir()
		if old {
			check(t, os.WriteFile(dir+"/x", []byte("old"), 0o640))
		}
		check(t, dump.ToFile(dir+"/x", func(w io.Writer) error {
			err := dump.ToFile(dir+"/x", half)
			if err == nil || errors.Is(err, errHalf) || !strings.Contains(err.Error(), "/x"+partial+": another dump is writing it") {
				t.Errorf("old %t: the second dump: %v", old, err)
			}
			if old && content(t, dir+"/x") != "old" {
				t.Error("the target was written")
			}
			return words(w)
		}))
		if got := content(t, dir+"/x"); got != "words" || names(t, dir) != "x" {
			t.Errorf("old %t: %q, and there are %s", old, got, names(t, dir))
		}
	}
}

// What is no file of ours stays.
func TestNoLeftover(t *testing.T) {
	for what, prepare := range map[string]func(dir string) error{
		"directory": func(dir string) error { return os.Mkdir(dir+"/x"+partial, 0o755) },
		"symlink":   func(dir string) error { return os.Symlink("precious", dir+"/x"+partial) },
	} {
		dir := t.TempDir()
		check(t, os.WriteFile(dir+"/precious", []byte("old"), 0o640))
		check(t, prepare(dir))
		before := names(t, dir)
		if err := dump.ToFile(dir+"/x", words); !errors.Is(err, os.ErrExist) || !strings.Contains(err.Error(), "/x"+partial) {
			t.Errorf("%s: %v", what, err)
		}
		if got := names(t, dir); got != before || content(t, dir+"/precious") != "old" {
			t.Errorf("%s: there are %s", what, got)
		}
	}
}

// Many dumps to one target: each succeeds or finds it busy, and the target is always whole.
func TestManyDumps(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(dir+"/x"+partial, []byte("left"), 0o600))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 50 {
				text := fmt.Sprintf("%d %d.", i, n)
				err := dump.ToFile(dir+"/x", func(w io.Writer) error {
					for _, c := range text {
						if _, err := io.WriteString(w, string(c)); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil && !strings.Contains(err.Error(), "another dump is writing it") {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	var i, n int
	if got := content(t, dir+"/x"); names(t, dir) != "x" {
		t.Errorf("there are %s", names(t, dir))
	} else if _, err := fmt.Sscanf(got, "%d %d.", &i, &n); err != nil || got != fmt.Sprintf("%d %d.", i, n) {
		t.Errorf("content %q, %v", got, err)
	}
}
