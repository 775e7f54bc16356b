package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/dump"
	"vitrine/repo/snapshot"
)

// dumpOptions are the flags of dump.
type dumpOptions struct {
	filterFlags
	archive string
	target  string
}

func newDump(a *app) *cobra.Command {
	var o dumpOptions
	cmd := &cobra.Command{
		Use:   "dump [flags] snapshotID[:path] file",
		Short: "Print a file of a snapshot, or a directory as an archive",
		Long: `Prints the content of a file of a snapshot to standard output, or a directory as a tar or zip
archive; / is all of the snapshot. The names in an archive are those of the snapshot, without
the slash in front.

What has been printed before an error is right, but not complete: look at the exit code.
A file that --target names is only there when it is complete.`,
		Example: `  vitrine dump latest /etc/fstab
  vitrine dump latest:/srv/db all.sql | mysql
  vitrine dump --archive zip --target docs.zip latest /home/anna/docs`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runDump(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	o.register(f, ` when "latest" is asked for`)
	f.StringVarP(&o.archive, "archive", "a", "tar", "`format` of the archive: tar or zip")
	f.StringVarP(&o.target, "target", "t", "", "write to this `file`, not to standard output")
	return cmd
}

func (a *app) runDump(ctx context.Context, o dumpOptions, args []string) error {
	const command = "vitrine dump"
	if len(args) != 2 {
		return usagef(command, "name a snapshot and a file in it")
	}
	format, err := dump.ParseFormat(o.archive)
	if err != nil {
		return usagef(command, "--archive %w", err)
	}
	r, err := a.openRepository(ctx, wiring.CachedIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	_, root, err := findTree(ctx, r, args[0], o.filter())
	if err != nil {
		return err
	}
	write := func(w io.Writer) error { return dumpTo(ctx, r, format, root, args[1], w) }
	if o.target == "" {
		return write(a.stdout)
	}
	return writeFile(o.target, write)
}

// dumpTo writes what is at the path below a tree.
func dumpTo(ctx context.Context, r *repo.Repository, format dump.Format, root blob.ID, file string, w io.Writer) error {
	name := path.Clean("/" + file)
	node, err := r.FindNode(ctx, root, name)
	if err != nil {
		return fmt.Errorf("cannot dump file: %w", err)
	}
	switch {
	case node.Type == snapshot.Dir && node.Subtree != nil:
		err = dump.Archive(ctx, r, format, *node.Subtree, name, w)
	case node.Type == snapshot.File:
		err = dump.File(ctx, r, node, w)
	default:
		return fmt.Errorf("cannot dump file: %q should be a file, but is a %q", name, node.Type)
	}
	if err != nil {
		return fmt.Errorf("dump %s: %w", name, err)
	}
	return nil
}

// writeFile makes a file of what write writes; without success it is not there.
func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.OpenFile(name+".vitrine-partial", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create the target: %w", err)
	}
	err = errors.Join(write(f), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
