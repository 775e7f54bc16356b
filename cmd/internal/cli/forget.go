package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/forget"
	"vitrine/repo/retention"
	"vitrine/repo/snapshot"
)

// forgetOptions are the flags of forget.
type forgetOptions struct {
	filterFlags
	policy    retention.Policy
	keepTags  []string
	groupBy   string
	compact   bool
	dryRun    bool
	removeAll bool
	prune     bool
	pruning   pruneOptions
}

// countFlag is a number of snapshots to keep, or "unlimited".
type countFlag struct{ n *int }

func (c countFlag) Set(s string) (err error) { *c.n, err = retention.ParseCount(s); return err }
func (c countFlag) Type() string             { return "n" }
func (c countFlag) String() string {
	if c.n != nil && *c.n == retention.All {
		return "unlimited"
	}
	if c.n == nil {
		return "0"
	}
	return strconv.Itoa(*c.n)
}

// spanFlag is a span of the calendar such as 1y5m7d2h.
type spanFlag struct{ d *retention.Duration }

func (s spanFlag) Set(text string) (err error) { *s.d, err = retention.ParseDuration(text); return err }
func (s spanFlag) Type() string                { return "span" }
func (s spanFlag) String() string {
	if s.d == nil {
		return ""
	}
	return s.d.String()
}

func newForget(a *app) *cobra.Command {
	var o forgetOptions
	cmd := &cobra.Command{
		Use:   "forget [flags] [snapshotID ...]",
		Short: "Remove snapshots, by a policy or by their IDs",
		Long: `Removes the snapshots whose IDs (or "latest") are given, or without IDs those that no rule of
a policy keeps. The policy, made of --keep-… flags, is applied to each group of snapshots by itself;
--group-by says what tells groups apart. --dry-run shows what would stay and go, and why. A policy that
fits no snapshot of a group, such as a --keep-tag with a typing error, removes nothing and is an error.

Rules with a number keep the newest snapshot of each of so many hours, days, … that have one. Those with
a duration count from the newest snapshot, not from today. As long as a rule is not used up, it
also keeps the oldest snapshot of the group.

The space is free after a prune; with --prune that comes at once, if a snapshot was removed.`,
		Example: `  vitrine forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run
  vitrine forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --prune
  vitrine forget --keep-within-daily 1m --keep-yearly unlimited --keep-tag release
  vitrine forget --host db1 --keep-last 3
  vitrine forget 79766175 latest`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runForget(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	o.registerPolicy(f)
	o.registerLong(f, "")
	f.StringArrayVar(&o.hosts, "hostname", nil, "the old name of --host, for this `host`")
	f.Lookup("hostname").Hidden = true
	f.BoolVarP(&o.compact, "compact", "c", false, "one line for a snapshot, without paths and reasons")
	f.StringVarP(&o.groupBy, "group-by", "g", "host,paths", "apply the policy to each `group`: host, paths, tags, with commas between; '' for one group of all")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "remove nothing, only tell what would be done")
	f.BoolVar(&o.prune, "prune", false, "prune the repository when snapshots have been removed")
	o.pruning.register(f)
	f.BoolVar(&o.removeAll, "unsafe-allow-remove-all", false, "without a policy, remove all snapshots that the filters let through")
	return cmd
}

func (o *forgetOptions) registerPolicy(f *pflag.FlagSet) {
	p := &o.policy
	for _, c := range []struct {
		word, letter, what string
		n                  *int
		span               *retention.Duration
	}{
		{"last", "l", "", &p.Last, nil},
		{"hourly", "H", "hourly ", &p.Hourly, &p.WithinHourly},
		{"daily", "d", "daily ", &p.Daily, &p.WithinDaily},
		{"weekly", "w", "weekly ", &p.Weekly, &p.WithinWeekly},
		{"monthly", "m", "monthly ", &p.Monthly, &p.WithinMonthly},
		{"yearly", "y", "yearly ", &p.Yearly, &p.WithinYearly},
	} {
		f.VarP(countFlag{c.n}, "keep-"+c.word, c.letter, "keep the last `n` "+c.what+"snapshots, or unlimited")
		if c.span != nil {
			f.Var(spanFlag{c.span}, "keep-within-"+c.word, "keep "+c.what+"snapshots that are less than a `duration`, such as 1y5m7d2h, older than the newest")
		}
	}
	f.Var(spanFlag{&p.Within}, "keep-within", "keep all snapshots that are less than a `duration`, such as 1y5m7d2h, older than the newest")
	f.StringArrayVar(&o.keepTags, "keep-tag", nil, "keep snapshots with all of these `tag[,tag,...]` (repeatable: any of the lists)")
}

// errNotRemoved is the end of a forget that left snapshots which it was to remove; which they are has been told.
var errNotRemoved = errors.New("failed to remove one or more snapshots")

func (a *app) runForget(ctx context.Context, o forgetOptions, ids []string) error {
	by, err := snapshot.ParseGroupBy(o.groupBy)
	if err != nil {
		return fmt.Errorf("--group-by: %w", err)
	}
	o.policy.Tags = snapshot.ParseTagList(o.keepTags)
	filter := o.filter()
	switch {
	case a.global.noLock && !o.dryRun:
		return usagef("vitrine forget", "--no-lock is only applicable in combination with --dry-run for forget command")
	case len(ids) > 0 || !o.policy.IsZero():
	case !o.removeAll:
		return usagef("vitrine forget", "%w", forget.ErrNoPolicy)
	case len(filter.Hosts)+len(filter.Tags)+len(filter.Paths) == 0:
		return usagef("vitrine forget", "--unsafe-allow-remove-all is not allowed unless a snapshot filter option is specified")
	}
	if o.prune {
		if err := a.checkPrune(o.pruning, "vitrine forget"); err != nil {
			return err
		}
	}
	a.ownFiles = true
	r, err := a.openRepository(ctx, wiring.NoIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	if o.prune {
		if err := o.pruning.fits(r); err != nil {
			return fmt.Errorf("forget --prune: %w", err)
		}
	}
	lock := a.withLock
	if o.dryRun && (!o.prune || a.global.noLock) {
		lock = withoutLock // it only reads; a prune, to say something true, needs a repository at rest
	}
	return lock(ctx, r, true, func(ctx context.Context) error {
		if len(ids) > 0 {
			plan, damaged := a.forgetNamed(ctx, r, ids, filter)
			return a.carryOut(ctx, r, plan, damaged, o)
		}
		// A snapshot that cannot be read stays, and the policy keeps what it would without it.
		found, damaged := a.selectSnapshots(ctx, r, nil, filter)
		if len(found) == 0 && damaged != nil {
			return damaged
		}
		plan, err := forget.ByPolicy(sorted(found, by.Tags), forget.Options{Policy: o.policy, GroupBy: by, RemoveAll: o.removeAll, Now: time.Now()})
		if err != nil {
			return err
		}
		a.print.Line("Applying Policy: %v", o.policy)
		a.printForget(plan, o.compact)
		return a.carryOut(ctx, r, plan, damaged, o)
	})
}

// forgetNamed plans to remove the snapshots that are named, also those whose files are damaged: nothing else takes these
// away.
func (a *app) forgetNamed(ctx context.Context, r *repo.Repository, ids []string, filter snapshot.Filter) (forget.Plan, error) {
	var sound []string
	var unread []blob.ID
	for _, spec := range ids {
		id, err := r.Resolve(ctx, backend.Snapshot, spec)
		if err == nil {
			_, err = r.LoadSnapshot(ctx, id)
		}
		if spec == "latest" || !errors.Is(err, repo.ErrCorrupt) {
			sound = append(sound, spec)
		} else if !slices.Contains(unread, id) {
			a.print.Warn("snapshot %s is removed unread: %v", id.Short(), err)
			unread = append(unread, id)
		}
	}
	var plan forget.Plan
	var damaged error
	if len(sound) > 0 {
		var found []*snapshot.Snapshot
		found, damaged = a.selectSnapshots(ctx, r, sound, filter)
		plan = forget.ByName(found)
	}
	plan.Remove = append(plan.Remove, unread...)
	return plan, damaged
}

// carryOut does what the plan says, and prunes where that is asked for. damaged is what could not be read.
func (a *app) carryOut(ctx context.Context, r *repo.Repository, plan forget.Plan, damaged error, o forgetOptions) error {
	err := a.executeForget(ctx, r, plan, o.dryRun)
	if a.print.JSONMode() && len(plan.Groups) > 0 {
		a.print.Message(forgetMessage(plan))
	}
	if err != nil || damaged != nil {
		return errors.Join(err, damaged)
	}
	if o.prune && len(plan.Remove) > 0 {
		return a.pruneForgotten(ctx, r, plan, o)
	}
	return nil
}

// pruneForgotten prunes under the lock of the forget. In a dry run the snapshots of the plan are still there,
// and count as removed.
func (a *app) pruneForgotten(ctx context.Context, r *repo.Repository, plan forget.Plan, o forgetOptions) error {
	o.pruning.silent = a.print.JSONMode()
	if !o.dryRun {
		a.print.Line("%d snapshots have been removed, running prune", len(plan.Remove))
		return a.prune(ctx, r, o.pruning)
	}
	a.print.Line("%d snapshots would be removed, running prune dry run", len(plan.Remove))
	o.pruning.dryRun = true
	o.pruning.ignore = make(map[blob.ID]bool)
	for _, id := range plan.Remove {
		o.pruning.ignore[id] = true
	}
	return a.prune(ctx, r, o.pruning)
}

// executeForget removes the snapshots of the plan, or tells what it would remove.
func (a *app) executeForget(ctx context.Context, r *repo.Repository, plan forget.Plan, dryRun bool) error {
	if len(plan.Remove) == 0 {
		return nil
	}
	if dryRun {
		if !a.print.JSONMode() {
			a.print.Result("Would have removed the following snapshots:\n{%s}\n", strings.Join(shortIDs(plan.Remove), " "))
		}
		return nil
	}
	show := progress.NewCounter(a.print, "files deleted", len(plan.Remove))
	failed, err := forget.Execute(ctx, r, plan, func(id blob.ID, err error) {
		if err != nil {
			a.print.Warn("unable to remove snapshot/%v from the repository: %v", id, err)
			return
		}
		show.Add(1)
		a.print.Detail(2, "removed snapshot/%v", id)
	})
	show.Finish()
	if err == nil && failed > 0 {
		err = fmt.Errorf("%w: %d of %d are still there", errNotRemoved, failed, len(plan.Remove))
	}
	return err
}

// shortIDs returns short IDs in their order.
func shortIDs(ids []blob.ID) []string {
	sorted := slices.SortedFunc(slices.Values(ids), blob.ID.Compare)
	var short []string
	for _, id := range sorted {
		short = append(short, id.Short())
	}
	return short
}

// printForget shows people what stays and why, and what goes.
func (a *app) printForget(plan forget.Plan, compact bool) {
	if a.print.JSONMode() || a.print.Quiet() {
		return
	}
	for _, g := range plan.Groups {
		if head := groupHead(g.Key); a.print.Verbose() > 0 && head != "" {
			a.print.Line("%s", head)
		}
		reasons := make(map[blob.ID][]string)
		var keep []*snapshot.Snapshot
		for _, reason := range g.Keep {
			keep = append(keep, reason.Snapshot)
			reasons[reason.Snapshot.ID] = reason.Matches
		}
		for _, part := range []struct {
			word    string
			list    []*snapshot.Snapshot
			reasons map[blob.ID][]string
		}{{"keep", keep, reasons}, {"remove", slices.Clone(g.Remove), nil}} {
			if len(part.list) == 0 {
				continue
			}
			a.print.Line("%s %d snapshots:", part.word, len(part.list))
			repo.SortSnapshots(part.list)
			_ = snapshotTable(part.list, compact, part.reasons).Write(a.stdout) // output remembers an error
			a.print.Line("")
		}
	}
}

// forgetGroup is one group of `forget --json`.
type forgetGroup struct {
	Tags    []string       `json:"tags"`
	Host    string         `json:"host"`
	Paths   []string       `json:"paths"`
	Keep    []snapshotJSON `json:"keep"`   // null for none, as is Remove
	Remove  []snapshotJSON `json:"remove"` // newest first, as is Keep
	Reasons []keepReason   `json:"reasons"`
}

// keepReason says in JSON why a snapshot is kept.
type keepReason struct {
	Snapshot snapshotJSON       `json:"snapshot"`
	Matches  []string           `json:"matches"`
	Counters retention.Counters `json:"counters"`
}

func forgetMessage(plan forget.Plan) []forgetGroup {
	var out []forgetGroup
	for _, g := range plan.Groups {
		fg := forgetGroup{Tags: g.Key.Tags, Host: g.Key.Hostname, Paths: g.Key.Paths}
		for _, reason := range g.Keep {
			sn := jsonSnapshots([]*snapshot.Snapshot{reason.Snapshot})[0]
			fg.Keep = append(fg.Keep, sn)
			fg.Reasons = append(fg.Reasons, keepReason{sn, reason.Matches, reason.Counters})
		}
		if len(g.Remove) > 0 {
			fg.Remove = jsonSnapshots(g.Remove)
		}
		out = append(out, fg)
	}
	return out
}
