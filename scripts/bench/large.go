package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// large measures the sum of one huge file that cannot be compressed, and the bare reading of a
// part of it: the sum itself may be slower than a mount.
func (b *bench) large(ctx context.Context) (err error) {
	dir, repo := b.work+"/large", b.work+"/repo-large"
	defer func() { err = errors.Join(err, os.RemoveAll(dir), os.RemoveAll(repo)) }()
	size := b.scale.fileBytes
	if err := errors.Join(os.Mkdir(dir, 0o755), writeNoise(dir+"/file", size)); err != nil {
		return err
	}
	if err := b.fill(ctx, repo, dir); err != nil {
		return err
	}
	readBytes := size / 4
	tests := []struct {
		row    spec
		script string // gets the file as $1
		bytes  int64
	}{{
		row:    spec{title: fmt.Sprintf("sha256sum of one file of %d MiB, cold", size>>20), targets: []target{atLeastPlain(0.7), atLeastRestic(4)}},
		script: `sha256sum "$1" >/dev/null`, bytes: size,
	}, {
		row:    spec{title: fmt.Sprintf("cat of its first %d MiB to a pipe, cold", readBytes>>20)},
		script: fmt.Sprintf(`head -c %d "$1" | cat >/dev/null`, readBytes), bytes: readBytes,
	}}
	if err := b.warmIndex(ctx, repo, b.programs()...); err != nil {
		return err
	}
	for _, test := range tests {
		test.row.section, test.row.unit, test.row.more = "large", "MB/s", true
		err := b.rounds(func(_ int, p program) error {
			if p.name == "vitrine" {
				u, err := b.shell(ctx, test.script, dir+"/file")
				if err != nil {
					return err
				}
				b.report.add(test.row, "plain", u.rate(test.bytes))
			}
			m, err := b.mount(ctx, p, repo)
			if err != nil {
				return err
			}
			u, err := m.while(func() (usage, error) { return b.shell(ctx, test.script, m.latest(dir)+"/file") })
			if err == nil {
				b.report.add(test.row, p.name, u.rate(test.bytes))
			}
			_, err2 := m.done()
			return errors.Join(err, err2)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
