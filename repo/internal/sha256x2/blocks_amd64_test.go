//go:build !purego

package sha256x2

import "testing"

// A processor without the instructions gets the same sums.
func TestWithoutInstructions(t *testing.T) {
	if !accelerated {
		t.Log("this processor has none: all tests are of this path")
	}
	defer func(was bool) { accelerated = was }(accelerated)
	accelerated = false
	TestSums(t)
	TestPair(t)
	p := noise(13, 1000)
	for n := range len(p) {
		compare(t, p[:n], p[n:])
	}
}
