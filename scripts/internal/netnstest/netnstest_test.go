package netnstest

import (
	"fmt"
	"os/exec"
	"testing"
)

// Networks do not share addresses, whatever numbers are drawn, and their hosts know the way to each other.
func TestNetworks(t *testing.T) {
	first := New(t)
	var octet int
	if _, err := fmt.Sscanf(first.part, "10.%d.", &octet); err != nil {
		t.Fatal(err)
	}
	id := octet - 64
	draws := []int{id + 0x8000, id + 0x8080, id + 0x8100 + 1}
	second := newNetwork(t, func() int {
		n := draws[0]
		draws = draws[1:]
		return n
	})
	if second.part == first.part {
		t.Errorf("both have the addresses %s…", first.part)
	}
	a, b := second.Host(), second.Host()
	for _, to := range []string{b.Addr, second.Addr()} {
		argv := a.Command("ip", "route", "get", to)
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v: %s", argv, err, out)
		}
	}
}
