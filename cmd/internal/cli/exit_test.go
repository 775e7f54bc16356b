package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"vitrine/repo"
	"vitrine/repo/lock"
)

func TestClassify(t *testing.T) {
	stopped, stop := context.WithCancel(context.Background())
	stop()
	for _, c := range []struct {
		ctx  context.Context
		err  error
		code int
		word string
	}{
		{t.Context(), nil, 0, ""},
		{stopped, nil, 0, ""},
		{t.Context(), errors.New("x"), 1, "Fatal: x"},
		{t.Context(), fmt.Errorf("open: %w 3", repo.ErrVersion), 1, "Fatal: open"},
		{t.Context(), fmt.Errorf("load tree/1: %w", repo.ErrBlobMissing), 1, "Fatal: load tree/1: blob is in no index; `vitrine repair index` "},
		{t.Context(), repo.Advised(fmt.Errorf("tree/1: %w; ask", repo.ErrBlobMissing)), 1, "index; ask\n"},
		{t.Context(), fmt.Errorf("snapshot/1: %w", repo.ErrNotAsNamed), 1, "its name; `vitrine check` finds "},
		{t.Context(), fmt.Errorf("open: %w", repo.Advised(fmt.Errorf("config: %w; do this", repo.ErrCorrupt))), 1, "corrupt; do this\n"},
		{t.Context(), fmt.Errorf("`vitrine x`; put y: %w", repo.ErrCorrupt), 1, "corrupt" + damagedAdvice}, // a name is no advice
		{t.Context(), errIncomplete, 3, "Warning: "},
		{t.Context(), errors.Join(errNotRemoved, errors.New("x")), 3, "Fatal: failed to remove"},
		{t.Context(), fmt.Errorf("/srv: %w", repo.ErrNoRepository), 10, "/srv"},
		{t.Context(), fmt.Errorf("%w by PID 7", lock.ErrLocked), 11, "by PID 7"},
		{t.Context(), repo.ErrWrongPassword, 12, "Fatal: "},
		{stopped, fmt.Errorf("read: %w", context.Canceled), 130, "interrupted"},
		{t.Context(), errors.Join(fmt.Errorf("backup: %w", lock.ErrLost), context.Canceled), 1, "lost"},
	} {
		code, message := classify(c.ctx, c.err)
		if code != c.code || !strings.Contains(message+"\n", c.word) {
			t.Errorf("%v: code %d, %q; want %d and %q", c.err, code, message, c.code, c.word)
		}
	}
}

func TestFinishIsOneLine(t *testing.T) {
	for _, args := range [][]string{nil, {"backup", "--json"}} {
		var out, errOut strings.Builder
		a := &app{stdout: &out, stderr: &errOut}
		if code := a.finish(t.Context(), args, errors.Join(errors.New("one"), errors.New("two"))); code != 1 {
			t.Errorf("code %d", code)
		}
		want := "Fatal: one; two\n"
		if args != nil {
			want = `{"message_type":"exit_error","code":1,"message":"Fatal: one; two"}` + "\n"
		}
		if errOut.String() != want || out.Len() > 0 {
			t.Errorf("%v: %q on standard error and %q on standard output, want %q", args, errOut.String(), out.String(), want)
		}
	}
}
