package fs

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// as runs a line of shell as another user.
func as(t *testing.T, uid, gid int, dir, line string) string {
	t.Helper()
	return run(t, dir, "setpriv", fmt.Sprintf("--reuid=%d", uid), fmt.Sprintf("--regid=%d", gid), "--clear-groups", "bash", "-c", line)
}

func TestRow19ModesAndUsers(t *testing.T) {
	src, r := zoo(t)
	// An ACL whose mask lets through what the group's own entry does not: by mode bits
	// alone, the owning group would be let in.
	mnt := filepath.Join(mountTest(t, r, Options{AllowOther: true}), "snapshots/latest/zoo")
	const stats = `find . -printf '%p %m %u:%g %U:%G\n' | sort`
	if diff := cmp.Diff(lines(sh(t, src, stats)), lines(sh(t, mnt, stats))); diff != "" {
		t.Error(diff)
	}
	for _, user := range []struct{ uid, gid int }{
		{65534, 65534}, {0o400, 0o401}, {0o644, 1}, {5, 0o20 + 1}, {1, 1}, {1234, 2}, {1234, 0}, {1000, 1000},
	} {
		for _, what := range []string{"-readable", "-executable"} {
			line := fmt.Sprintf(`find modes attributes files/text %s 2>/dev/null | sort`, what)
			want, got := as(t, user.uid, user.gid, src, line), as(t, user.uid, user.gid, mnt, line)
			if diff := cmp.Diff(lines(want), lines(got)); diff != "" {
				t.Errorf("user %d:%d, find %s: %s", user.uid, user.gid, what, diff)
			}
		}
		// Not only what access(2) says: what can be read.
		line := `for f in modes/f* attributes/acl attributes/file; do cat "$f" 2>&1 | sed 's/^cat: //'; done`
		if diff := cmp.Diff(as(t, user.uid, user.gid, src, line), as(t, user.uid, user.gid, mnt, line)); diff != "" {
			t.Errorf("user %d:%d, cat: %s", user.uid, user.gid, diff)
		}
	}
}

func TestTrustedAttributesAreForRoot(t *testing.T) {
	_, r := zoo(t)
	mnt := filepath.Join(mountTest(t, r, Options{AllowOther: true}), "snapshots/latest/zoo")
	const list = "getfattr -hd -m - attributes/* 2>&1"
	if got := sh(t, mnt, list); !strings.Contains(got, "trusted.") {
		t.Errorf("root is not told of trusted attributes:\n%s", got)
	}
	if got := as(t, 65534, 65534, mnt, list); strings.Contains(got, "trusted.") || !strings.Contains(got, "user.") {
		t.Errorf("others see:\n%s", got)
	}
}

func TestOwnersAndPermissions(t *testing.T) {
	_, r := zoo(t)
	for _, tc := range []struct {
		name  string
		o     Options
		cat   string // what nobody gets of a file with mode 0
		owner string
	}{
		{"closed", Options{}, "Permission denied", "0:1"},
		{"open", Options{AllowOther: true}, "Permission denied", "0:1"},
		{"no permissions", Options{AllowOther: true, NoDefaultPermissions: true}, "0000", "0:1"},
		{"owned by root", Options{AllowOther: true, OwnerRoot: true}, "Permission denied", "0:0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mnt := mountTest(t, r, tc.o)
			file := filepath.Join(mnt, "snapshots/latest/zoo/modes/file 0000")
			if got := as(t, 65534, 65534, "/", "cat '"+file+"' 2>&1 || true"); !strings.Contains(got, tc.cat) {
				t.Errorf("nobody gets %q, want %q", got, tc.cat)
			}
			if got := sh(t, "/", "stat -c %u:%g '"+file+"'"); got != tc.owner+"\n" {
				t.Errorf("owner %q, want %q", got, tc.owner)
			}
		})
	}
}
