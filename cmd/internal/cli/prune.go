package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/prune"
	"vitrine/repo/source"
)

// pruneOptions are the flags of prune.
type pruneOptions struct {
	dryRun        bool
	maxUnused     string
	maxRepackSize string
	cacheableOnly bool
	small         bool
	smallerThan   string
	uncompressed  bool
	noFreeSpace   string

	ignore map[blob.ID]bool // snapshots that a dry run counts as removed
	silent bool             // no summary for programs: those of forget --json expect one array, which was printed
}

func newPrune(a *app) *cobra.Command {
	var o pruneOptions
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Free the space of what no snapshot needs",
		Long: `Removes what no snapshot needs from the repository: packs that hold nothing else, and, by writing
the rest again, what is unused in others, until at most --max-unused of it stays. It needs the
repository for itself. Interrupted at any point it loses nothing, and the next prune finishes.
Mounts that are open go on reading.`,
		Example: `  vitrine prune --dry-run
  vitrine prune
  vitrine prune --max-unused 0 --max-repack-size 10G
  vitrine prune --repack-smaller-than 4m
  vitrine prune --max-unused unlimited`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runPrune(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "change nothing, only tell what would be done")
	f.StringVar(&o.noFreeSpace, "unsafe-recover-no-free-space", "", "for a store that is full: write nothing before something is removed, not even a lock where there is no room for one; the `ID` of the repository says that you mean it. Interrupted, it needs repair index. Try --max-repack-size 0 first")
	o.register(f)
	return cmd
}

// register adds the flags that forget --prune has, too.
func (o *pruneOptions) register(f *pflag.FlagSet) {
	f.StringVar(&o.maxUnused, "max-unused", "5%", "how much unused data may stay: a `limit` in bytes (suffixes k, m, g, t), in %, or the word unlimited")
	f.StringVar(&o.maxRepackSize, "max-repack-size", "", "write again packs of at most this `size` together (suffixes k, m, g, t)")
	f.BoolVar(&o.cacheableOnly, "repack-cacheable-only", false, "write only packs of directories again, which the cache holds")
	f.BoolVar(&o.small, "repack-small", false, "write packs below 80 % of the size of new ones again, when there are ten or more")
	f.StringVar(&o.smallerThan, "repack-smaller-than", "", "write packs below this `size` again, at most that of new ones (suffixes k, m, g)")
	f.BoolVar(&o.uncompressed, "repack-uncompressed", false, "write all data again that is not compressed")
}

// options reads the values of the flags.
func (o *pruneOptions) options() (prune.Options, error) {
	po := prune.Options{
		MaxRepackBytes: prune.NoLimit, CacheableOnly: o.cacheableOnly, Small: o.small, Uncompressed: o.uncompressed,
		NoFreeSpace: o.noFreeSpace != "", Ignore: o.ignore,
	}
	var err error
	if po.MaxUnused, err = parseLimit(o.maxUnused); err != nil {
		return po, fmt.Errorf("--max-unused: %w", err)
	}
	if o.maxRepackSize != "" {
		if po.MaxRepackBytes, err = source.ParseSize(o.maxRepackSize); err != nil {
			return po, fmt.Errorf("--max-repack-size: %w", err)
		}
	}
	if o.smallerThan != "" {
		po.Small = true
		if po.SmallBytes, err = source.ParseSize(o.smallerThan); err == nil && po.SmallBytes == 0 {
			err = errors.New("no pack is smaller than 0 bytes")
		}
		if err != nil {
			return po, fmt.Errorf("--repack-smaller-than: %w", err)
		}
	}
	return po, nil
}

// parseLimit reads 5%, 100M or unlimited.
func parseLimit(s string) (prune.Limit, error) {
	if s == "unlimited" {
		return prune.Unlimited, nil
	}
	if number, ok := strings.CutSuffix(s, "%"); ok {
		p, err := strconv.ParseFloat(number, 64)
		if err != nil || !(p >= 0 && p <= 100) {
			return prune.Limit{}, fmt.Errorf("%q: a percentage is a number from 0 to 100", s)
		}
		return prune.Percent(p), nil
	}
	n, err := source.ParseSize(s)
	if err != nil {
		return prune.Limit{}, fmt.Errorf("%w; 5%% and unlimited are possible, too", err)
	}
	return prune.Bytes(n), nil
}

// checkPrune refuses flags of a command that prunes, before the repository is opened.
func (a *app) checkPrune(o pruneOptions, command string) error {
	if _, err := o.options(); err != nil {
		return usagef(command, "%w", err)
	}
	if o.uncompressed && a.global.compression == "off" {
		return usagef(command, "--repack-uncompressed and --compression off exclude each other")
	}
	return nil
}

// fits refuses options that the repository is not made for, before anything is changed.
func (o *pruneOptions) fits(r *repo.Repository) error {
	po, err := o.options()
	switch {
	case err != nil:
		return err
	case o.uncompressed && r.Config().Version < 2:
		return errors.New("--repack-uncompressed: a repository of version 1 cannot compress")
	case po.SmallBytes > int64(r.PackBytes()):
		return fmt.Errorf("--repack-smaller-than %s: new packs have only %d MiB, and would be written again each time; see --pack-size", o.smallerThan, r.PackBytes()>>20)
	}
	return nil
}

func (a *app) runPrune(ctx context.Context, o pruneOptions) error {
	if err := a.checkPrune(o, "vitrine prune"); err != nil {
		return err
	}
	a.ownFiles = true
	r, err := a.openRepository(ctx, wiring.NoIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := o.fits(r); err != nil {
		return fmt.Errorf("prune: %w", err)
	}
	if o.noFreeSpace != "" && o.noFreeSpace != r.Config().ID {
		return fmt.Errorf("--unsafe-recover-no-free-space: say the ID of this repository, %s, if you mean it", r.Config().ID)
	}
	if o.dryRun && a.global.noLock {
		return a.prune(ctx, r, o)
	}
	locked := false
	err = a.withLock(ctx, r, true, func(ctx context.Context) error {
		locked = true
		return a.prune(ctx, r, o)
	})
	switch {
	case !errors.Is(err, backend.ErrFull):
		return err
	case !locked && o.noFreeSpace != "":
		a.print.Logger().Warn("there is no room for a lock, so see to it that nobody else uses the repository until this has ended", "error", err)
		return a.prune(ctx, r, o)
	case !locked:
		return whenFull(err, "make room, or see `vitrine prune --help` for --unsafe-recover-no-free-space, which needs none; --dry-run --no-lock tells what could be freed")
	}
	return whenFull(err, "--max-repack-size 0 needs less room, and --unsafe-recover-no-free-space none")
}

// prune plans and, unless it is a dry run, executes. The caller holds an exclusive lock, to which ctx belongs; the
// repository needs no index, and what it has cached of one is out of date afterwards.
func (a *app) prune(ctx context.Context, r *repo.Repository, o pruneOptions) error {
	po, err := o.options()
	if err != nil {
		return err
	}
	defer boundHeap()()
	show := progress.NewPrune(a.print)
	defer show.End()
	plan, err := prune.MakePlan(ctx, r, po, show)
	if err != nil {
		return fmt.Errorf("prune: %w", err)
	}
	show.End()
	show.Plan(&plan.Stats)
	if !o.dryRun && !plan.Nothing() {
		if err := plan.Execute(ctx, show); err != nil {
			return fmt.Errorf("prune: %w", err)
		}
	}
	show.End()
	if !o.silent {
		show.Finish(&plan.Stats, o.dryRun)
	}
	return nil
}
