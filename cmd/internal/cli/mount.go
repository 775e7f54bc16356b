package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/wiring"
	"vitrine/fs"
	"vitrine/repo/source"
)

// mountOptions are the flags of mount.
type mountOptions struct {
	filterFlags
	allowOther           bool
	noDefaultPermissions bool
	ownerRoot            bool
	pathTemplates        []string
	timeTemplate         string
	memory               string
	ioTimeout            time.Duration
}

func newMount(a *app) *cobra.Command {
	var o mountOptions
	cmd := &cobra.Command{
		Use:   "mount [flags] mountpoint",
		Short: "Show the snapshots as directories",
		Long: `Mounts the repository, read-only, on an existing empty directory and serves it until
Ctrl-C, SIGTERM or umount. New snapshots appear by themselves, and no lock is held.

  ids/<id>                every snapshot by its ID
  snapshots/<time>        by time
  hosts/<host>/<time>     by host
  tags/<tag>/<time>       by tag

The lists of times have an entry "latest". --path-template sets other names, with %i (short ID),
%I (ID), %u (user), %h (host), %t (tag) and %T (time, as --time-template says in the manner of
Go: it shows Mon Jan 2 15:04:05 -0700 MST 2006).

How the mount is doing is in the file .vitrine/status below the mount point, as JSON; no listing
shows it. On SIGUSR1 the same goes to standard error as lines to read. --memory bounds what is kept
in RAM to read it only once; the process takes up to 100 MiB more.

When a remote repository stops answering, programs that read from the mount wait up to --io-timeout and then
get an I/O error; the mount stays, and reads work again as soon as the repository does.`,
		Example: `  vitrine mount /mnt/backup
  cp -a /mnt/backup/snapshots/latest/home/anna/letters .`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("vitrine mount", "name one directory to mount on")
			}
			return a.runMount(cmd.Context(), o, args[0])
		},
	}
	f := cmd.Flags()
	o.register(f, "")
	f.BoolVar(&o.allowOther, "allow-other", false, "let other users read too, as far as modes and owners allow")
	f.BoolVar(&o.noDefaultPermissions, "no-default-permissions", false, "with --allow-other, let everybody read everything")
	f.BoolVar(&o.ownerRoot, "owner-root", false, "show root as the owner of everything")
	f.StringArrayVar(&o.pathTemplates, "path-template", nil, "`template` for the directories of snapshots (repeatable)")
	f.StringVar(&o.memory, "memory", "", "keep at most this `size` of content and directories in RAM, suffixes k, m, g ($VITRINE_MEMORY; default: 512m, or an eighth of the RAM if that is less)")
	f.DurationVar(&o.ioTimeout, "io-timeout", defaultIOTimeout, "while a remote repository does not answer, let readers wait for this `duration` before they get an I/O error ($VITRINE_IO_TIMEOUT)")
	f.StringVar(&o.timeTemplate, "time-template", time.RFC3339, "`template` for times")
	return cmd
}

// mountedMessage tells under --json that the mount is ready.
type mountedMessage struct {
	MessageType string `json:"message_type"` // mounted
	Mountpoint  string `json:"mountpoint"`
}

func (a *app) runMount(ctx context.Context, o mountOptions, dir string) error {
	show := make(chan os.Signal, 1) // from the start: until somebody listens the signal would kill
	signal.Notify(show, syscall.SIGUSR1)
	defer signal.Stop(show)
	budget, err := o.budgetBytes(a.said("memory"))
	if err != nil {
		return err
	}
	if o.ioTimeout <= 0 {
		return usagef("vitrine mount", "%s %v: write a duration above 0, such as 30s or 5m", a.said("io-timeout"), o.ioTimeout)
	}
	limitMemory(budget)
	location, err := a.where(&a.global.access, "repo")
	if err != nil {
		return err
	}
	a.print.StampLog()
	a.global.store.Meter = new(wiring.Meter)
	a.global.stuckAfter = stuckUnderMount(a.global.stuckAfter, o.ioTimeout)
	// The time runs from the first failure, and a request that hangs fails only then.
	a.global.store.RetryFor = o.ioTimeout - a.global.stuckAfter
	a.global.store.RetryStrictly = true
	r, err := a.openRepository(ctx, wiring.CachedIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	repoDir, err := wiring.DiskPath(location)
	if err != nil {
		return err
	}
	server, err := fs.Mount(ctx, dir, r, fs.Options{
		AllowOther: o.allowOther, OwnerRoot: o.ownerRoot, NoDefaultPermissions: o.noDefaultPermissions,
		Filter: o.filter(), PathTemplates: o.pathTemplates, TimeTemplate: o.timeTemplate,
		CacheBytes: budget, RepoPath: repoDir, RepoName: wiring.PublicName(location), RepoID: r.Config().ID,
		Traffic: a.global.store.Meter.Traffic, Log: a.print.Logger(),
	})
	if err != nil {
		return err
	}
	moreProcs(6)
	if a.print.JSONMode() {
		a.print.Message(mountedMessage{"mounted", dir})
	}
	a.print.Line("Now serving the repository at %s", dir)
	a.print.Line("Leave it with Ctrl-C here, or with: umount %s", dir)
	return a.serve(ctx, server, show)
}

// defaultIOTimeout is longer than a router or a server takes to start again.
const defaultIOTimeout = 5 * time.Minute

// stuckUnderMount is when a request that hangs is made anew: while its readers still wait, also when 0 lets other
// commands wait for ever.
func stuckUnderMount(stuckAfter, ioTimeout time.Duration) time.Duration {
	if stuckAfter == 0 {
		return ioTimeout / 4
	}
	return min(stuckAfter, ioTimeout/4)
}

// budgetBytes is what --memory says, or the variable; said is which.
func (o *mountOptions) budgetBytes(said string) (int64, error) {
	if o.memory == "" {
		return fs.DefaultCacheBytes(), nil
	}
	budget, err := source.ParseSize(o.memory)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%s: %w", said, err)
	case budget < fs.MinCacheBytes:
		return 0, fmt.Errorf("%s %s: reading large files takes at least %dm", said, o.memory, fs.MinCacheBytes>>20)
	}
	return budget, nil
}

// aboveBudgetBytes is how much the Go runtime may take beside the caches before it collects garbage
// all the time: for requests in flight, buffers and dead objects. Together with the program itself and
// the index, both mapped files, it stays below 100 MiB.
const aboveBudgetBytes = 64 << 20

// limitMemory keeps the process near the budget. A lower limit that the user set ($GOMEMLIMIT) stays.
func limitMemory(budgetBytes int64) {
	limit := budgetBytes + aboveBudgetBytes
	debug.SetMemoryLimit(min(limit, debug.SetMemoryLimit(-1)))
}

// moreProcs lets more goroutines run than there are processors, unless $GOMAXPROCS says how many. Those that wait for
// requests in the kernel, or for what it does, count as running; when they are as many as may run, the others wait until Go's
// scheduler takes their turn away, every 20 µs at most, and they have to queue for it again.
func moreProcs(more int) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + more) // which a container may bound
	}
}

// serve waits until the mount is gone, and prints its status for each signal of show. A signal
// is the usual end of a mount and no error; when programs still use files of it they may finish,
// unless a second signal comes and kills.
//
// A hangup ends the mount, too: a process that dies of it leaves a dead mount behind. Whoever
// wants the mount to outlive the terminal starts it with nohup.
func (a *app) serve(ctx context.Context, server *fs.Server, show <-chan os.Signal) error {
	if !signal.Ignored(syscall.SIGHUP) {
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
		defer stop()
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		server.Wait()
	}()
	stop := ctx.Done()
	for {
		select {
		case <-gone:
			return nil
		case <-show:
			a.showStatus(server.Status())
		case <-stop:
			stop = nil
			if err := server.Unmount(); err != nil { // it warns about programs that stay
				return err
			}
		}
	}
}
