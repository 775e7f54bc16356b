// Package accept holds the acceptance tests of the whole program: the built binary, real
// kernels, and Debian's restic and rsync on the other side. `go test ./scripts/accept` runs
// them on small inputs; with VITRINE_ACCEPT=long (make accept) the same assertions run on
// at least 50 000 files and 2 GiB, with 100 000 entries in one directory and 50 rounds of kills.
//
// Under go test -race there are two programs. A lab runs the one with the race detector, which a test
// keeps when several things happen at once in it: kills, cuts, interrupts, servers that go away, damage,
// many readers, and each command once. lab.plain takes the other, which works in a half to a quarter of the
// processor time, where the question is what is written and shown: the bytes restic reads, the zoo, the
// tutorials, the messages. The code is the same, and the tests of all packages below it run under the race detector.
//
// The tests that fail each call to a backend, or to the disk, run inside the test process. Under the race
// detector they take every fourth call, and scripts/test runs them once more without it for all calls.
package accept
