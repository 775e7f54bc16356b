package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"vitrine/scripts/internal/sample"
)

// restMost is the share of the processor time that may be in no stage.
const restMost = 0.05

// cost is what the backups of one file took, all runs together, and what they would take at least.
type cost struct {
	name        string
	plainBytes  int64 // of the file
	storedBytes int64
	runs        []usage // each
	spent       spent   // by all of them
	limits      limits
}

// perGiB is seconds of one run as seconds for each GiB.
func (c *cost) perGiB(d time.Duration) float64 {
	return d.Seconds() / float64(c.plainBytes) * (1 << 30)
}

// share is what all runs together took, for one of them.
func (c *cost) share(d time.Duration) time.Duration { return d / time.Duration(len(c.runs)) }

// mean is that of the runs.
func (c *cost) mean() usage {
	var all usage
	for _, u := range c.runs {
		all.wall += u.wall
		all.cpu += u.cpu
	}
	return usage{wall: c.share(all.wall), cpu: c.share(all.cpu)}
}

// stages measures where the processor time of a backup of one large file goes, and how far that is from what the codecs,
// the reading and the writing take alone.
func (b *bench) stages(ctx context.Context) error {
	var costs []*cost
	for _, content := range []content{b.noiseContent(), b.tarContent()} {
		c, err := b.costOf(ctx, content)
		if err != nil {
			return err
		}
		costs = append(costs, c)
	}
	b.report.table("What a backup costs", costTable(costs))
	return nil
}

// costOf makes a file, backs it up again and again, and measures the limits over it.
func (b *bench) costOf(ctx context.Context, of content) (c *cost, err error) {
	p := b.ours()
	p.repo = b.work + "/repo-stages"
	dir, what, err := of.fill(ctx)
	defer func() { err = errors.Join(err, os.RemoveAll(p.repo), of.clear(dir)) }()
	if err != nil {
		return nil, err
	}
	b.report.note("What a backup of %s costs is that of %s.", of.name, what)
	c = &cost{name: of.name, spent: spent{map[stage]time.Duration{}, map[string]time.Duration{}}}
	for round := range 1 + b.runs {
		if err := b.costRound(ctx, c, p, dir, round > 0); err != nil {
			return nil, err
		}
	}
	if _, c.storedBytes, err = sample.Measure(p.repo); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(p.repo); err != nil {
		return nil, err
	}
	if c.limits, err = b.limitsOf(ctx, dir+"/file", c.plainBytes, c.storedBytes); err != nil {
		return nil, err
	}
	b.reportCost(c)
	return c, nil
}

// costRound makes a new repository and backs up under a profile. The first round only makes memory and caches warm.
func (b *bench) costRound(ctx context.Context, c *cost, p program, dir string, counts bool) error {
	if err := os.RemoveAll(p.repo); err != nil {
		return err
	}
	if _, err := b.run(ctx, b.command(p, p.repo, "init")); err != nil {
		return err
	}
	if err := b.quicken(ctx, p.repo); err != nil {
		return err
	}
	b.memory.settle(ctx)
	run := profiled{Repo: p.repo, Dir: dir, Profile: b.work + "/profile"}
	if err := elsewhere(ctx, profiledArgument, &run); err != nil {
		return err
	}
	fmt.Printf("bench: %8.2f s  backup of %s under a profile, %.2f s of processors\n", run.Wall.Seconds(), c.name, run.CPU.Seconds())
	if !counts {
		return nil
	}
	c.plainBytes = run.PlainBytes
	c.runs = append(c.runs, usage{wall: run.Wall, cpu: run.CPU})
	in, err := os.Open(run.Profile)
	if err != nil {
		return err
	}
	defer in.Close()
	parsed, err := profile.Parse(in)
	if err != nil {
		return err
	}
	c.spent.add(stagesOf(parsed))
	return nil
}

// reportCost adds what the table of stages comes to, and complains of what it does not explain.
func (b *bench) reportCost(c *cost) {
	title := fmt.Sprintf("backup of %s, %d MiB to %d MiB: ", c.name, mib(c.plainBytes), mib(c.storedBytes))
	cpu := spec{section: "stages", title: title + "processors; plain is the sum of the limits", unit: "s/GiB"}
	b.report.add(cpu, "plain", value{v: c.limits.sum() * (1 << 30)})
	wall := spec{section: "stages", title: title + "wall; plain is the processor time shared out to all processors", unit: "s/GiB"}
	for _, u := range c.runs {
		b.report.add(cpu, "vitrine", value{v: c.perGiB(u.cpu)})
		b.report.add(wall, "plain", value{v: c.perGiB(u.cpu) / float64(runtime.NumCPU())})
		b.report.add(wall, "vitrine", value{v: c.perGiB(u.wall)})
	}
	if share := c.spent.by[rest].Seconds() / c.spent.sum().Seconds(); share > restMost {
		b.report.note("Of the backup of %s %.0f %% of the processor time is in no stage; see the stacks that the bench printed.", c.name, 100*share)
		for _, stack := range c.spent.largest(20) {
			fmt.Printf("bench: %v in no stage: %s\n", c.spent.stacks[stack], stack)
		}
	}
}

// costTable is the table of stages, in seconds of one processor for each GiB that was backed up. What the system counts and
// no profile shows is mostly the thread with which Go's runtime watches the others.
func costTable(costs []*cost) []string {
	line := func(cells ...string) string { return "| " + strings.Join(cells, " | ") + " |" }
	head, under := []string{"s/GiB"}, []string{"---"}
	for _, c := range costs {
		head = append(head, c.name, "limit", "of limit")
		under = append(under, "---", "---", "---")
	}
	lines := []string{line(head...), "|" + strings.Join(under, "|") + "|"}
	add := func(name string, figures func(*cost) (took, limit float64)) {
		cells := []string{name}
		for _, c := range costs {
			took, limit := figures(c)
			if limit == 0 {
				cells = append(cells, fmt.Sprintf("%.3f", took), "–", "–")
			} else {
				cells = append(cells, fmt.Sprintf("%.3f", took), fmt.Sprintf("%.3f", limit), fmt.Sprintf("%.2f", took/limit))
			}
		}
		lines = append(lines, line(cells...))
	}
	for _, s := range stagesInOrder {
		add(stageNames[s], func(c *cost) (took, limit float64) { return c.perGiB(c.share(c.spent.by[s])), c.limits[s] * (1 << 30) })
	}
	add("not sampled", func(c *cost) (took, limit float64) { return c.perGiB(c.mean().cpu - c.share(c.spent.sum())), 0 })
	add("**all**", func(c *cost) (took, limit float64) { return c.perGiB(c.mean().cpu), c.limits.sum() * (1 << 30) })
	add(fmt.Sprintf("wall (limit: all / %d)", runtime.NumCPU()), func(c *cost) (took, limit float64) {
		return c.perGiB(c.mean().wall), c.perGiB(c.mean().cpu) / float64(runtime.NumCPU())
	})
	for _, c := range costs {
		lines = append(lines, "", fmt.Sprintf("%s: %.2f GiB, stored as %.2f; %.2f s of processors and %.2f s of wall each of %d times.", c.name,
			float64(c.plainBytes)/(1<<30), float64(c.storedBytes)/(1<<30), c.mean().cpu.Seconds(), c.mean().wall.Seconds(), len(c.runs)))
	}
	return lines
}
