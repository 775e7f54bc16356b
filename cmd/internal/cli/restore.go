package cli

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/lock"
	"vitrine/repo/restore"
	"vitrine/repo/source/pattern"
)

// restoreOptions are the flags of restore.
type restoreOptions struct {
	filterFlags
	patternFlags

	target          string
	overwrite       string
	delete          bool
	dryRun          bool
	sparse          bool
	verify          bool
	ownershipByName bool
	includeXattr    []string
	excludeXattr    []string
}

func newRestore(a *app) *cobra.Command {
	var o restoreOptions
	cmd := &cobra.Command{
		Use:   "restore [flags] snapshotID[:path]",
		Short: "Write files of a snapshot into a directory",
		Long: `Writes the files and directories of a snapshot, which is named by its ID or as "latest", below
the target directory; with :path only what is in that directory of the snapshot. The target itself
keeps its mode, owner and times; one that is made is open to its owner only.

A file gets its name when all of its content is verified and written. What is in the target
already becomes what the snapshot has, and content that is the same is not written again;
--overwrite says otherwise. What the snapshot has not stays, unless --delete is given.
A directory that is not empty gives way to a file only with --delete, and only when nothing
in it is excluded or a mount point. What was cut off by kill -9 leaves files named .vitrine-…
beside those that it was writing; remove them when no restore runs.

Whoever is not root owns what he restores, and files of others lose their set-user-ID and
set-group-ID bits, as with cp -p.

Exit codes: 0 all is restored, 1 something is not; each such file has been named.`,
		Example: `  vitrine restore latest --target /tmp/restored
  vitrine restore latest:/home/anna --target /home/anna --overwrite if-changed
  vitrine restore 40dc1520 --target / --include /etc/ssh --dry-run -vv`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runRestore(cmd.Context(), o, args) },
	}
	o.registerRestore(cmd.Flags())
	return cmd
}

func (o *restoreOptions) registerRestore(f *pflag.FlagSet) {
	o.filterFlags.register(f, ` when "latest" is asked for`)
	o.patternFlags.register(f)
	f.StringVarP(&o.target, "target", "t", "", "the `directory` to restore into")
	f.StringVar(&o.overwrite, "overwrite", "always", "what to do with files that are there: `when` is always, if-changed (size and time are believed), if-newer (in the snapshot) or never")
	f.BoolVar(&o.delete, "delete", false, "remove what is in the target's directories and not in the snapshot, but sockets, which no snapshot has; a directory that the snapshot has not is removed whole, with excluded files in it")
	f.BoolVar(&o.dryRun, "dry-run", false, "write nothing, only tell what would be written; with -vv each file")
	f.BoolVar(&o.sparse, "sparse", false, "leave holes where files are zero")
	f.BoolVar(&o.verify, "verify", false, "read all files again afterwards and compare them")
	f.BoolVar(&o.ownershipByName, "ownership-by-name", false, "give files to the users and groups of the names in the snapshot, not of the numbers")
	f.StringArrayVar(&o.includeXattr, "include-xattr", nil, "restore only extended attributes whose name matches the `pattern` (repeatable)")
	f.StringArrayVar(&o.excludeXattr, "exclude-xattr", nil, "do not restore extended attributes whose name matches the `pattern` (repeatable)")
}

func (a *app) runRestore(ctx context.Context, o restoreOptions, args []string) error {
	defer boundHeap()()
	ro, err := a.restoreOptions(o, args)
	if err != nil {
		return err
	}
	r, err := a.openRepository(ctx, wiring.BusyIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	if a.global.noLock || o.dryRun {
		return a.restore(ctx, r, o, ro, args[0])
	}
	err = a.readLock(ctx, r, func(ctx context.Context, l *lock.Lock) error {
		ro.Begin = l.Settled
		return a.restore(ctx, r, o, ro, args[0])
	})
	return whenFull(err, "`vitrine restore --no-lock` needs no room for a lock")
}

// restoreOptions makes the options of the verb from the flags, as far as that goes without the
// repository.
func (a *app) restoreOptions(o restoreOptions, args []string) (ro restore.Options, err error) {
	const command = "vitrine restore"
	if len(args) == 2 && o.target == "" {
		return ro, usagef(command, "a second argument is not taken: the directory to restore to is given with --target")
	}
	if len(args) != 1 {
		return ro, usagef(command, `name one snapshot by its ID, or as "latest"`)
	}
	if o.target == "" {
		return ro, usagef(command, "please specify a directory to restore to (--target)")
	}
	ro = restore.Options{
		Delete: o.delete, DryRun: o.dryRun, Sparse: o.sparse, Verify: o.verify,
		OwnershipByName: o.ownershipByName, Log: a.print.Logger(),
	}
	if ro.Target, err = filepath.Abs(o.target); err != nil {
		return ro, fmt.Errorf("--target: %w", err)
	}
	if ro.Overwrite, err = restore.ParseOverwrite(o.overwrite); err != nil {
		return ro, usagef(command, "--overwrite %w", err)
	}
	if ro.Select, err = o.selection(func(name string) string { value, _ := a.env(name); return value }); err != nil {
		return ro, usagef(command, "%w", err)
	}
	if o.delete && ro.Target == "/" && len(ro.Select.Include)+len(ro.Select.Exclude) == 0 {
		return ro, usagef(command, "--delete with --target / would remove everything that is not in the snapshot: say with --include or --exclude what it is about")
	}
	if ro.Xattrs, err = xattrFilter(o.includeXattr, o.excludeXattr); err != nil {
		return ro, usagef(command, "%w", err)
	}
	return ro, nil
}

// restore restores and tells of it.
func (a *app) restore(ctx context.Context, r *repo.Repository, o restoreOptions, ro restore.Options, spec string) error {
	sn, tree, err := findTree(ctx, r, spec, o.filter())
	if err != nil {
		return err
	}
	ro.Tree = tree
	a.print.Line("restoring snapshot %s of %v at %s by %s@%s to %s", sn.ID.Short(), sn.Paths,
		sn.Time.Local().Format(timeFormat), sn.Username, sn.Hostname, progress.Printable(ro.Target))
	show := progress.NewRestore(a.print)
	ro.Reporter = show
	stop := a.print.Live(show.Begin(), show)
	res, err := restore.Run(ctx, r, ro)
	stop()
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	show.Finish(res, o.dryRun, o.verify && !o.dryRun)
	if len(ro.Select.Include) > 0 && res.Restored+res.Unchanged == 0 && res.Errors == 0 {
		a.print.Logger().Warn("nothing in the snapshot matches what --include names; `vitrine ls` shows what there is", "snapshot", sn.ID.Short())
	}
	advice := ""
	if show.Missing() {
		advice = missingAdvice
	}
	switch {
	case res.Errors == 1:
		return fmt.Errorf("there was 1 error, named above%s", advice)
	case res.Errors > 1:
		return fmt.Errorf("there were %d errors, named above%s", res.Errors, advice)
	}
	return nil
}

// patternFlags say which files of a snapshot are meant.
type patternFlags struct {
	includes, iincludes, includeFiles, iincludeFiles []string
	excludes, iexcludes, excludeFiles, iexcludeFiles []string
}

func (o *patternFlags) register(f *pflag.FlagSet) {
	f.StringArrayVarP(&o.includes, "include", "i", nil, "only what matches the `pattern`, and all below it (repeatable)")
	f.StringArrayVar(&o.iincludes, "iinclude", nil, "as --include, but upper and lower case of the `pattern` are equal (repeatable)")
	f.StringArrayVar(&o.includeFiles, "include-file", nil, "read patterns for --include from a `file` (repeatable)")
	f.StringArrayVar(&o.iincludeFiles, "iinclude-file", nil, "read patterns for --iinclude from a `file` (repeatable)")
	f.StringArrayVarP(&o.excludes, "exclude", "e", nil, "not what matches the `pattern` (repeatable)")
	f.StringArrayVar(&o.iexcludes, "iexclude", nil, "as --exclude, but upper and lower case of the `pattern` are equal (repeatable)")
	f.StringArrayVar(&o.excludeFiles, "exclude-file", nil, "read patterns for --exclude from a `file` (repeatable)")
	f.StringArrayVar(&o.iexcludeFiles, "iexclude-file", nil, "read patterns for --iexclude from a `file` (repeatable)")
}

// selection makes the lists of the flags.
func (o *patternFlags) selection(getenv func(string) string) (s restore.Select, err error) {
	for _, side := range []struct {
		name                   string
		given, files           []string
		givenFolded, filesFold []string
		lists                  *[]*pattern.List
	}{
		{"include", o.includes, o.includeFiles, o.iincludes, o.iincludeFiles, &s.Include},
		{"exclude", o.excludes, o.excludeFiles, o.iexcludes, o.iexcludeFiles, &s.Exclude},
	} {
		if *side.lists, err = compileLists(side.given, side.files, side.givenFolded, side.filesFold, getenv); err != nil {
			return s, fmt.Errorf("--%s: %w", side.name, err)
		}
	}
	if len(s.Include) > 0 && len(s.Exclude) > 0 {
		return s, fmt.Errorf("exclude and include patterns are mutually exclusive")
	}
	return s, nil
}

// xattrFilter makes the filter of --include-xattr and --exclude-xattr, nil when neither is given.
func xattrFilter(include, exclude []string) (func(name string) bool, error) {
	if len(include) > 0 && len(exclude) > 0 {
		return nil, fmt.Errorf("--exclude-xattr and --include-xattr are mutually exclusive")
	}
	patterns := append(include[:len(include):len(include)], exclude...)
	if len(patterns) == 0 {
		return nil, nil
	}
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return nil, fmt.Errorf("pattern %q for extended attributes: %w", p, err)
		}
	}
	return func(name string) bool {
		for _, p := range patterns {
			if ok, _ := path.Match(p, strings.ReplaceAll(name, "/", "_")); ok {
				return len(include) > 0
			}
		}
		return len(include) == 0
	}, nil
}
