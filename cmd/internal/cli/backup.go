package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/archive"
	"vitrine/repo/snapshot"
)

// backupOptions are the flags of backup.
type backupOptions struct {
	targetFlags
	excludeFlags

	stdin         bool
	stdinFilename string

	parent          string
	force           bool
	groupBy         string
	ignoreInode     bool
	ignoreCtime     bool
	withAtime       bool
	time            string
	host            string
	tags            []string
	dryRun          bool
	skipIfUnchanged bool
	noScan          bool
	readConcurrency uint
}

func newBackup(a *app) *cobra.Command {
	var o backupOptions
	cmd := &cobra.Command{
		Use:   "backup [flags] [FILE/DIR] ...",
		Short: "Save files and directories in a new snapshot",
		Long: `Saves the files and directories that are named in a new snapshot. Data that the repository
has already is not stored again, and files that have not changed since the parent snapshot
(the newest of the same host and paths) are not even read.

Exit codes: 0 all is saved, 1 there is no snapshot, 3 there is one but some files could not be
read. An interrupted backup can be started again; what it stored is not stored twice.`,
		Example: `  vitrine backup ~/work --exclude '*.o' --tag work
  vitrine backup / --one-file-system --exclude-caches --exclude /var/tmp
  mysqldump --all-databases | vitrine backup --stdin --stdin-filename all.sql`,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.stdinIsData = o.readsStdin()
			return a.runBackup(cmd.Context(), o, args)
		},
	}
	o.register(cmd.Flags())
	return cmd
}

func (o *backupOptions) register(f *pflag.FlagSet) {
	o.targetFlags.register(f)
	o.excludeFlags.register(f)
	f.BoolVar(&o.stdin, "stdin", false, "back up what standard input gives, as one file")
	f.StringVar(&o.stdinFilename, "stdin-filename", "stdin", "`name` of that file")

	f.StringVar(&o.parent, "parent", "", "compare with this `snapshot` (default: the newest of the same host and paths)")
	f.BoolVarP(&o.force, "force", "f", false, "read all files again, whatever the parent says")
	f.StringVarP(&o.groupBy, "group-by", "g", "host,paths", "what the parent has in common with the new snapshot: a `group` of host, paths, tags")
	f.BoolVar(&o.ignoreInode, "ignore-inode", false, "a new inode number alone does not make a file changed")
	f.BoolVar(&o.ignoreCtime, "ignore-ctime", false, "a new change time alone does not make a file changed")
	f.BoolVar(&o.withAtime, "with-atime", false, "save the times of last access too")

	f.StringVar(&o.time, "time", "", "`time` of the snapshot, as in '2012-11-01 22:08:41' (default: now)")
	f.StringVarP(&o.host, "host", "H", "", "`hostname` of the snapshot ($VITRINE_HOST; default: that of this machine)")
	f.StringArrayVar(&o.tags, "tag", nil, "`tag[,tag,...]` of the snapshot (repeatable)")

	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "store nothing, only tell what would be stored")
	f.BoolVar(&o.skipIfUnchanged, "skip-if-unchanged", false, "save no snapshot when nothing differs from the parent")
	f.BoolVar(&o.noScan, "no-scan", false, "do not count the files first; progress then knows no total")
	f.UintVar(&o.readConcurrency, "read-concurrency", 0, "read `n` files at a time ($VITRINE_READ_CONCURRENCY; default: one for each processor)")
}

// readsStdin reports whether standard input is data or a list of files, and so no password.
func (o *backupOptions) readsStdin() bool {
	return o.stdin || slices.Contains(slices.Concat(o.filesFrom, o.filesFromVerbatim, o.filesFromRaw), "-")
}

func (a *app) runBackup(ctx context.Context, o backupOptions, args []string) error {
	ao, err := a.archiveOptions(ctx, o, args)
	if err != nil {
		return err
	}
	r, err := a.openRepository(ctx, wiring.CachedIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	save := func(ctx context.Context) error { return a.archive(ctx, r, o, ao) }
	if o.dryRun {
		return save(ctx) // it writes nothing, not even a lock
	}
	return a.withLock(ctx, r, false, save)
}

// archiveOptions makes the options of the verb from the flags, as far as that goes without the
// repository.
func (a *app) archiveOptions(ctx context.Context, o backupOptions, args []string) (archive.Options, error) {
	ao := archive.Options{
		Force: o.force, IgnoreInode: o.ignoreInode, IgnoreCtime: o.ignoreCtime, WithAtime: o.withAtime,
		Time: time.Now(), Host: o.host, ProgramVersion: "vitrine " + Version,
		DryRun: o.dryRun, SkipIfUnchanged: o.skipIfUnchanged, NoScan: o.noScan || a.global.quiet,
		ReadConcurrency: int(o.readConcurrency), Log: a.print.Logger(),
	}
	if ao.Host == "" {
		ao.Host = hostname()
	}
	for _, list := range snapshot.ParseTagList(o.tags) {
		ao.Tags = append(ao.Tags, list...)
	}
	ao.Tags = slices.DeleteFunc(ao.Tags, func(tag string) bool { return tag == "" })
	if o.time != "" && o.time != "now" {
		var err error
		if ao.Time, err = time.ParseInLocation(timeFormat, o.time, time.Local); err != nil {
			return ao, usagef("vitrine backup", "--time %q: write it as '2012-11-01 22:08:41'", o.time)
		}
	}
	ao.Excludes = o.excludes // those of files are not noted, as in restic
	var err error
	if ao.Filter, err = o.filter(func(name string) string { value, _ := a.env(name); return value }); err != nil {
		return ao, err
	}
	if ao.Targets, err = o.targets(a, args); err != nil {
		return ao, err
	}
	switch {
	case o.stdin && (len(args) > 0 || o.filesFromGiven()):
		return ao, usagef("vitrine backup", "--stdin was specified and files or directories too: leave one of them out")
	case o.stdin:
		ao.Stdin, ao.StdinFilename = a.interruptible(ctx), o.stdinFilename
	case len(ao.Targets) == 0:
		return ao, usagef("vitrine backup", "nothing to backup, please specify target files/dirs")
	}
	return ao, nil
}

// archive makes the backup and tells of it.
func (a *app) archive(ctx context.Context, r *repo.Repository, o backupOptions, ao archive.Options) error {
	var err error
	if ao.Parent, err = a.findParent(ctx, r, o, ao); err != nil {
		return err
	}
	if o.groupBy != defaultGroupBy && ao.Parent == nil {
		ao.Force = true // Run would choose by host and paths
	}
	show := progress.NewBackup(a.print)
	ao.Reporter = show
	stop := a.print.Live(show.Begin(), show)
	res, err := archive.Run(ctx, r, ao)
	stop()
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	show.Finish(res, o.dryRun)
	if res.Errors > 0 {
		return errIncomplete
	}
	return nil
}

// defaultGroupBy is how archive.Run itself chooses the parent.
const defaultGroupBy = "host,paths"

// findParent returns the parent that the flags name, or nil to leave the choice to archive.Run.
func (a *app) findParent(ctx context.Context, r *repo.Repository, o backupOptions, ao archive.Options) (*snapshot.Snapshot, error) {
	by, err := snapshot.ParseGroupBy(o.groupBy)
	switch {
	case err != nil:
		return nil, fmt.Errorf("--group-by: %w", err)
	case o.force:
		return nil, nil
	case o.parent == "" && o.groupBy == defaultGroupBy:
		return nil, nil
	}
	var f snapshot.Filter
	if by.Host {
		f.Hosts = []string{ao.Host}
	}
	if by.Paths {
		f.Paths = absolute(ao.Targets)
	}
	if by.Tags {
		f.Tags = [][]string{ao.Tags}
	}
	if o.parent != "" {
		sn, err := r.FindSnapshot(ctx, o.parent, f)
		if err != nil {
			return nil, fmt.Errorf("--parent: %w", err)
		}
		return sn, nil
	}
	all, err := r.Snapshots(ctx)
	if err != nil {
		a.print.Warn("warning: no parent is looked for among damaged snapshots: %v", err)
	}
	for _, sn := range slices.Backward(all) {
		if !sn.Time.After(ao.Time) && f.Match(sn) {
			return sn, nil
		}
	}
	return nil, nil
}
