// Package netnstest makes hosts for tests: network namespaces of the kernel, each with an address of its own, that
// reach each other and this machine over a bridge. It needs root, and the programs ip and nsenter, which
// scripts/setup installs.
//
//	this machine 10.N.0.254 ── bridge ─┬─ host 10.N.0.1
//	                                   ├─ host 10.N.0.2
//	                                   …
//
// The names of the hosts and the alias of the bridge begin with "vitrine-" and the process ID, by which scripts/test
// finds and removes what a killed test has left.
package netnstest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Network is a bridge with hosts. It is gone when its test ends.
type Network struct {
	t     testing.TB
	part  string // "10.N.0."
	name  string // of the bridge, and the beginning of those of its ports
	hosts int
}

// New makes a network, and ends the test when that is not possible. Without root it skips it.
func New(t testing.TB) *Network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may make network namespaces")
	}
	return newNetwork(t, func() int { return rand.IntN(1 << 16) })
}

// newNetwork tries numbers: another test may have the same bridge, or the same addresses on another one.
func newNetwork(t testing.TB, number func() int) *Network {
	t.Helper()
	var err error
	for range 20 {
		id := number()
		n := &Network{t: t, part: fmt.Sprintf("10.%d.0.", 64+id%128), name: fmt.Sprintf("vi%04x", id)}
		if err = ip("link", "add", n.name, "type", "bridge"); err != nil {
			continue
		}
		if err = n.address(); err != nil {
			n.end("link", "del", n.name)
			continue
		}
		t.Cleanup(func() { n.end("link", "del", n.name) })
		n.must("link", "set", n.name, "up")
		return n
	}
	t.Fatalf("make a bridge: %v", err)
	return nil
}

// address gives the bridge its alias and address, which nobody else may have, not even since a moment ago.
func (n *Network) address() error {
	for _, args := range [][]string{
		{"link", "set", n.name, "alias", fmt.Sprintf("vitrine-%d-bridge", os.Getpid())},
		{"addr", "add", n.Addr() + "/24", "dev", n.name},
	} {
		if err := ip(args...); err != nil {
			return err
		}
	}
	out, err := exec.Command("ip", "-4", "-o", "addr", "show", "to", n.part+"0/24").CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip addr show: %w: %s", err, out)
	}
	if strings.Count(string(out), "\n") != 1 {
		return fmt.Errorf("somebody else has addresses of %s0/24:\n%s", n.part, out)
	}
	return nil
}

// Addr is the address of this machine in the network.
func (n *Network) Addr() string { return n.part + "254" }

// Host is a network namespace.
type Host struct {
	Addr string // IPv4
	name string
}

// Host adds a host.
func (n *Network) Host() *Host {
	n.t.Helper()
	n.hosts++
	h := &Host{Addr: fmt.Sprint(n.part, n.hosts), name: fmt.Sprintf("vitrine-%d-%s-%d", os.Getpid(), n.name, n.hosts)}
	port := fmt.Sprintf("%s-%d", n.name, n.hosts)
	n.must("netns", "add", h.name)
	n.t.Cleanup(func() { n.end("netns", "del", h.name) })
	n.must("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", h.name)
	n.must("link", "set", port, "master", n.name, "up")
	n.must("-n", h.name, "addr", "add", h.Addr+"/24", "dev", "eth0")
	n.must("-n", h.name, "link", "set", "eth0", "up")
	n.must("-n", h.name, "link", "set", "lo", "up")
	return h
}

// Command returns the command line that runs another one on the host. It sees the files and processes of this machine.
func (h *Host) Command(argv ...string) []string {
	return append([]string{"nsenter", "--net=/run/netns/" + h.name}, argv...)
}

// must ends the test when it fails.
func (n *Network) must(args ...string) {
	n.t.Helper()
	if err := ip(args...); err != nil {
		n.t.Fatal(err)
	}
}

// end takes something away.
func (n *Network) end(args ...string) {
	n.t.Helper()
	if err := ip(args...); err != nil {
		n.t.Error(err)
	}
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
