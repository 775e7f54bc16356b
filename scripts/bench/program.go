package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"vitrine/scripts/internal/forge"
	"vitrine/scripts/internal/sample"
)

// program is one of the two peers.
type program struct {
	name string
	path string
	repo string // of the tree sections, written by this program
}

func (b *bench) restic() program { return program{"restic", "restic", b.work + "/repo-restic"} }
func (b *bench) ours() program   { return program{"vitrine", b.vitrine, b.work + "/repo-vitrine"} }

// programs are both, restic first.
func (b *bench) programs() []program { return []program{b.restic(), b.ours()} }

// command makes a command line of the program on a repository.
func (b *bench) command(p program, repo string, args ...string) []string {
	return append([]string{p.path, "--repo", repo, "--password-file", b.work + "/password", "--cache-dir", b.work + "/cache-" + p.name}, args...)
}

// rounds calls fn for every measurement of both programs. They take turns, so that a busy minute
// of the machine hits both; restic, whose mount is slow, is measured in the first round only.
func (b *bench) rounds(fn func(round int, p program) error) error {
	for round := range b.runs {
		for _, p := range b.programs() {
			if round > 0 && p.name == "restic" {
				continue
			}
			if err := fn(round, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// sampled is a sample of real files. A process of its own gathers it, for the same reason as with the ballast.
type sampled struct {
	Dir       string
	Files     int
	SizeBytes int64
}

// sampleArgument makes this program one that gathers a sample: it reads a sampled.
const sampleArgument = "gather-sample"

func (s *sampled) gather() error { return sample.CopySome(s.Dir, s.Files, s.SizeBytes) }

// needSource gathers the files of the tree sections.
func (b *bench) needSource(ctx context.Context) error {
	if b.source != "" {
		return nil
	}
	source := b.data
	if source == "" {
		source = b.work + "/source"
		fmt.Printf("bench: gathering %d files and %d MiB\n", b.scale.files, b.scale.sizeBytes>>20)
		if err := elsewhere(ctx, sampleArgument, &sampled{source, b.scale.files, b.scale.sizeBytes}); err != nil {
			return err
		}
	}
	files, size, err := sample.Measure(source)
	if err != nil {
		return err
	}
	b.report.note("The tree of the sections backup, mount, restore and pure has %d files and %.2f GiB.", files, float64(size)/(1<<30))
	b.source = source
	return nil
}

// needTree makes sure that there is a snapshot of the source in vitrine's repository.
func (b *bench) needTree(ctx context.Context) error {
	if err := b.needSource(ctx); err != nil {
		return err
	}
	p := b.ours()
	if _, err := os.Stat(p.repo); err == nil {
		return nil
	}
	return b.fill(ctx, p.repo, b.source)
}

// dropTree makes room.
func (b *bench) dropTree() error {
	b.source = ""
	return errors.Join(os.RemoveAll(b.work+"/source"), os.RemoveAll(b.restic().repo), os.RemoveAll(b.ours().repo))
}

// fill makes a repository with one snapshot of each directory, by vitrine. Its key opens at once, so that
// nothing has to be subtracted for its derivation.
func (b *bench) fill(ctx context.Context, repo string, dirs ...string) error {
	p := b.ours()
	if _, err := b.run(ctx, b.command(p, repo, "init")); err != nil {
		return err
	}
	if err := b.quicken(ctx, repo); err != nil {
		return err
	}
	for _, dir := range dirs {
		if _, err := b.run(ctx, b.command(p, repo, "backup", dir)); err != nil {
			return err
		}
	}
	return nil
}

// quicken replaces the key of a repository by one that is derived at once.
func (b *bench) quicken(ctx context.Context, repo string) error {
	master, err := b.masterKey(ctx, repo)
	if err != nil {
		return err
	}
	return forge.QuickKey(repo, master, []byte("bench"))
}

func (b *bench) masterKey(ctx context.Context, repo string) (forge.Key, error) {
	var master forge.Key
	plain, err := b.output(ctx, b.command(b.ours(), repo, "cat", "masterkey"))
	if err != nil {
		return master, err
	}
	if err := json.Unmarshal(plain, &master); err != nil {
		return master, fmt.Errorf("cat masterkey: %w", err)
	}
	return master, nil
}

// output runs a command that is not measured and returns what it prints.
func (b *bench) output(ctx context.Context, argv []string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", short(argv), err)
	}
	return out, nil
}
