//go:build !purego

package sha256many

import (
	"fmt"
	"testing"
)

// A processor without some of the instructions gets the same sums.
func TestWithoutInstructions(t *testing.T) {
	defer func(a, w bool) { accelerated, wide = a, w }(accelerated, wide)
	hasSHA, hasWide := accelerated, wide
	for _, way := range []struct{ sha, wide bool }{{false, false}, {true, false}, {false, true}} {
		t.Run(fmt.Sprintf("SHA %v, sixteen lanes %v", way.sha, way.wide), func(t *testing.T) {
			if way.sha && !hasSHA || way.wide && !hasWide {
				t.Log("this processor has not got these")
				return
			}
			accelerated, wide = way.sha, way.wide
			TestSums(t)
			TestLanes(t)
			TestManyShort(t)
			p := noise(13, 1000)
			for n := range len(p) {
				compare(t, p[:n], p[n:])
			}
		})
	}
}
