// Package accept holds the acceptance tests of the whole program: the built binary, real
// kernels, and Debian's restic and rsync on the other side. `go test ./scripts/accept` runs
// them on small inputs; with VITRINE_ACCEPT=long (make accept) the same assertions run on
// at least 50 000 files and 2 GiB, with 100 000 entries in one directory and 50 rounds of kills.
package accept
