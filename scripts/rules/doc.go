// Package rules holds the architecture as a test: which package may import which, and the
// house rules that a machine can check. Each rule says why it is there and what to do
// instead, and prints both when it is broken. Run it with `go test ./scripts/rules`.
package rules
