// Command compat compares the help of restic with that of vitrine and prints the compatibility list of the README.
//
//	go run ./scripts/compat                 print it
//	go run ./scripts/compat -write          put it into README.md
//	go run ./scripts/compat -record restic  print the interface of a restic, for scripts/internal/compat
//
// It fails when a flag of restic is neither accepted nor explained.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"vitrine/scripts/internal/compat"
)

func main() {
	vitrine := flag.String("vitrine", "bin/vitrine", "the `program` of ours")
	restic := flag.String("restic", "restic", "the `program` to compare it with")
	write := flag.Bool("write", false, "put the list into README.md")
	record := flag.String("record", "", "print the interface of this `program` and do nothing else")
	flag.Parse()
	if err := run(context.Background(), compat.Program(*vitrine), compat.Program(*restic), *write, *record); err != nil {
		fmt.Fprintln(os.Stderr, "compat:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, vitrine, restic compat.Program, write bool, record string) error {
	if record != "" {
		all, err := compat.Program(record).Interface(ctx)
		if err == nil {
			fmt.Print(all.Record())
		}
		return err
	}
	list, findings, err := compat.List(ctx, restic, vitrine)
	if err != nil {
		return err
	}
	if len(findings) > 0 {
		return errors.New(strings.Join(findings, "\ncompat: "))
	}
	if !write {
		fmt.Print(list)
		return nil
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		return err
	}
	before, _, after, err := compat.Section(string(readme))
	if err != nil {
		return err
	}
	return os.WriteFile("README.md", []byte(before+list+after), 0o644)
}
