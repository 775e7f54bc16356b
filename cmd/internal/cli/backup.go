package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/archive"
	"vitrine/repo/lock"
	"vitrine/repo/snapshot"
	"vitrine/repo/source"
)

// backupOptions are the flags of backup.
type backupOptions struct {
	targetFlags
	excludeFlags

	stdin         bool
	stdinCommand  bool
	command       []string // whose output is backed up
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
(the newest of the same host and paths) are not even read. Symbolic links are saved as
links, also those that are named.

Exit codes: 0 all is saved, 1 there is no snapshot, 3 there is one but some files could not be
read. An interrupted backup can be started again; what it stored is not stored twice.`,
		Example: `  vitrine backup ~/work --exclude '*.o' --tag work
  vitrine backup / --one-file-system --exclude-caches --exclude /var/tmp
  mysqldump --all-databases | vitrine backup --stdin --stdin-filename all.sql
  vitrine backup --stdin-filename all.sql --stdin-from-command -- mysqldump --all-databases`,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.stdinIsData = o.readsStdin()
			if o.stdinCommand {
				o.command = args
			}
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
	f.BoolVar(&o.stdinCommand, "stdin-from-command", false, "back up what the command prints that the arguments are; when it fails there is no snapshot")
	f.StringVar(&o.stdinFilename, "stdin-filename", "stdin", "`name` of that file")

	f.StringVar(&o.parent, "parent", "", "compare with this `snapshot` (default: the newest of the same host and paths)")
	f.BoolVarP(&o.force, "force", "f", false, "read all files again, whatever the parent says")
	f.StringVarP(&o.groupBy, "group-by", "g", "host,paths", "what the parent has in common with the new snapshot: a `group` of host, paths, tags")
	f.BoolVar(&o.ignoreInode, "ignore-inode", false, "a new inode number alone does not make a file changed")
	f.BoolVar(&o.ignoreCtime, "ignore-ctime", false, "a new change time alone does not make a file changed")
	f.BoolVar(&o.withAtime, "with-atime", false, "save the times of last access too")

	f.StringVar(&o.time, "time", "", "`time` of the snapshot, as in '2012-11-01 22:08:41' (default: now)")
	f.StringVarP(&o.host, "host", "H", "", "`hostname` of the snapshot ($VITRINE_HOST; default: that of this machine)")
	f.StringVar(&o.host, "hostname", "", "the old name of --host, for this `hostname`")
	f.Lookup("hostname").Hidden = true
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
	defer boundHeap()()
	ao, err := a.archiveOptions(ctx, o, args)
	if err != nil {
		return err
	}
	a.global.store.Meter = new(wiring.Meter)
	a.unfinished.mends = !o.dryRun
	r, err := a.openRepository(ctx, wiring.BusyIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	if o.dryRun {
		return a.archive(ctx, r, o, ao) // it writes nothing, not even a lock
	}
	early, err := a.chooseParent(ctx, r, o, &ao)
	if err != nil {
		return err
	}
	return a.backupLock(ctx, r, early, ao.Parent == nil, func(ctx context.Context, l *lock.Lock) error {
		if err := a.mend(ctx, r, l); err != nil {
			return err
		}
		// Of two hosts one goes forwards and one backwards, until they meet.
		ao.Backwards, ao.Direction = l.Backwards(), l.BackwardsNow
		return a.archive(ctx, r, o, ao)
	})
}

// chooseParent looks for the parent before there is a lock, and reports whether work may begin before that has settled: then
// what is read and sealed meanwhile waits to be written. A client that begins at the same moment is seen soon after, when
// archive asks for the direction.
func (a *app) chooseParent(ctx context.Context, r *repo.Repository, o backupOptions, ao *archive.Options) (bool, error) {
	if o.force || o.stdin || o.stdinCommand || o.parent != "" || o.groupBy != defaultGroupBy {
		return false, nil // archive will look
	}
	for _, target := range ao.Targets {
		if _, err := os.Lstat(target); err != nil {
			return false, nil // it is no part of the paths; archive.Run will say so, and look
		}
	}
	paths, err := source.Abs(ao.Targets)
	if err != nil {
		return false, err
	}
	if ao.Parent, err = archive.FindParent(ctx, r, ao.Host, paths, ao.Time, ao.Log); err != nil {
		return false, err
	}
	ao.ParentFound = true
	ao.Force = ao.Parent == nil // it is not looked for again
	return true, nil
}

// scanLead is how long before the first line of progress the counting of files begins: time for some hundred thousand of them.
const scanLead = 2 * time.Second

// archiveOptions makes the options of the verb from the flags, as far as that goes without the
// repository.
func (a *app) archiveOptions(ctx context.Context, o backupOptions, args []string) (archive.Options, error) {
	ao := archive.Options{
		Force: o.force, IgnoreInode: o.ignoreInode, IgnoreCtime: o.ignoreCtime, WithAtime: o.withAtime,
		Time: time.Now(), Host: o.host, ProgramVersion: "vitrine " + Version,
		DryRun: o.dryRun, SkipIfUnchanged: o.skipIfUnchanged, NoScan: o.noScan || a.global.quiet,
		ScanAfter: max(0, a.print.Silence()-scanLead), ReadConcurrency: int(o.readConcurrency), Log: a.print.Logger(),
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
	if o.stdinCommand {
		return ao, o.checkCommand(&ao, args)
	}
	if ao.Targets, err = o.targets(a, args); err != nil {
		return ao, err
	}
	switch {
	case o.stdin && o.stdinFilename == "":
		return ao, usagef("vitrine backup", "--stdin-filename is empty: leave it out, or give a name")
	case o.stdin && (len(args) > 0 || o.filesFromGiven()):
		return ao, usagef("vitrine backup", "--stdin was specified and files or directories too: leave one of them out")
	case o.stdin:
		ao.Stdin, ao.StdinFilename = &notEmpty{Reader: interruptible(ctx, a.stdin)}, o.stdinFilename
	case len(ao.Targets) == 0:
		return ao, usagef("vitrine backup", "nothing to backup, please specify target files/dirs")
	}
	return ao, nil
}

// checkCommand sees to it that there is a command to run, and nothing else to back up.
func (o *backupOptions) checkCommand(ao *archive.Options, args []string) error {
	switch {
	case o.stdinFilename == "":
		return usagef("vitrine backup", "--stdin-filename is empty: leave it out, or give a name")
	case o.stdin:
		return usagef("vitrine backup", "--stdin and --stdin-from-command exclude each other")
	case o.filesFromGiven():
		return usagef("vitrine backup", "--stdin-from-command was specified and lists of files too: leave one of them out")
	case len(args) == 0 || args[0] == "":
		return usagef("vitrine backup", "--stdin-from-command: say which command, behind --")
	}
	ao.StdinFilename = o.stdinFilename
	return nil
}

// archive makes the backup and tells of it.
func (a *app) archive(ctx context.Context, r *repo.Repository, o backupOptions, ao archive.Options) error {
	var err error
	if ao.Parent == nil {
		if ao.Parent, err = a.findParent(ctx, r, o, ao); err != nil {
			return err
		}
	}
	if o.groupBy != defaultGroupBy && ao.Parent == nil {
		ao.Force = true // Run would choose by host and paths
	}
	if o.command != nil {
		out, end := runCommand(ctx, o.command, func(line string) { a.print.Warn("subprocess %s: %s", o.command[0], progress.Printable(line)) })
		defer end()
		ao.Stdin = &notEmpty{Reader: out}
	}
	if hint := linkHint(ao.Targets); hint != "" && !a.print.JSONMode() && !a.print.Quiet() {
		a.print.Warn("%s", hint)
	}
	show := progress.NewBackup(a.print)
	show.Storing(a.global.store.Meter.StoringBytes)
	ao.Reporter = newReading(show, ao.Force || ao.Stdin != nil)
	stop := a.print.Live(show.Begin(), show)
	context.AfterFunc(ctx, stop) // what is stored after a signal is no progress
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

// reading lets one goroutine more run than there are processors once a backup turns out to read files, and not just to
// look at them: one waits for the disk, or for what the kernel does with a pack. Where all is as the parent
// has it nobody waits for long, and one more only takes the processor from the others, in the middle of their system calls.
type reading struct {
	archive.Reporter
	leftBytes atomic.Int64 // until then
}

const (
	muchBytes = 64 << 20
	// readBytes is what a read counts for at least: a small file costs more than its bytes.
	readBytes = 16 << 10
)

// newReading wraps the reporter of a backup; much says that all of its files are to be read.
func newReading(r archive.Reporter, much bool) *reading {
	w := &reading{Reporter: r}
	if much {
		moreProcs(1)
	} else {
		w.leftBytes.Store(muchBytes)
	}
	return w
}

// Read implements archive.Reporter.
func (r *reading) Read(n int) {
	took := int64(max(n, readBytes))
	if left := r.leftBytes.Add(-took); left <= 0 && left+took > 0 {
		moreProcs(1)
	}
	r.Reporter.Read(n)
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
		a.print.Warn(progress.Warning+"no parent is looked for among damaged snapshots: %v", err)
	}
	for _, sn := range slices.Backward(all) {
		if !sn.Time.After(ao.Time) && f.Match(sn) {
			return sn, nil
		}
	}
	return nil, nil
}
