// Command vitrine backs up to restic-format repositories and shows their snapshots as
// directories. See package cli for its command line.
package main

import (
	"os"

	"vitrine/cache/indexdb"
	"vitrine/cmd/internal/cli"
)

func main() { os.Exit(run()) }

// run is the program, or the child process of it that builds an index cache.
func run() int {
	if len(os.Args) > 1 && os.Args[1] == indexdb.BuilderArg {
		return indexdb.BuildMain()
	}
	return cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ())
}
