package cli

import (
	"fmt"
	"testing"

	"vitrine/repo/check"
)

// TestCheckFailed: what could not be read does not count as an error of the repository.
func TestCheckFailed(t *testing.T) {
	for _, test := range []struct {
		errors, unread int
		want           string
	}{
		{0, 0, "<nil>"},
		{1, 0, "the repository contains 1 error, named above"},
		{3, 0, "the repository contains 3 errors, named above"},
		{2, 2, "the repository was not checked as a whole: 2 parts of it could not be read, named above, and may be sound: check again"},
		{3, 1, "the repository contains 2 errors, named above; 1 part of it could not be read, named above, and may be sound: check again"},
	} {
		if got := fmt.Sprint(checkFailed(check.Result{Errors: test.errors, Unread: test.unread})); got != test.want {
			t.Errorf("%d errors, %d unread: %s\nwant %s", test.errors, test.unread, got, test.want)
		}
	}
}
