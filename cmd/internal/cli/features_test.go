package cli

import (
	"strings"
	"testing"
)

func TestCheckFeatures(t *testing.T) {
	for _, test := range []struct {
		flags string
		want  []string // a part of each warning
	}{
		{"", nil},
		{" , ", nil},
		{"safe-forget-keep-tags", nil},
		{"safe-forget-keep-tags=true,backend-error-redesign=1, device-id-for-hardlinks=false", nil},
		{"safe-forget-keep-tags=false", []string{"safe-forget-keep-tags is always true"}},
		{"device-id-for-hardlinks", []string{"device-id-for-hardlinks is always false"}},
		{"device-id-for-hardlinks=perhaps", []string{`"perhaps" is neither true nor false`}},
		{"deprecate-legacy-index=true,=true", []string{`"deprecate-legacy-index" is unknown`, `"" is unknown`}},
	} {
		got := checkFeatures(test.flags)
		if len(got) != len(test.want) {
			t.Errorf("%q: %q", test.flags, got)
			continue
		}
		for i := range got {
			if !strings.Contains(got[i], test.want[i]) {
				t.Errorf("%q: %q, want %q in it", test.flags, got[i], test.want[i])
			}
		}
	}
}
