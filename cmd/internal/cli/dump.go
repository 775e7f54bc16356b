package cli

import (
	"context"
	"fmt"
	"io"
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
A file that --target names is only there when it is complete; one that it replaces keeps its
mode and owner. What would lose something is written as it is: devices, FIFOs, files with
several names, an ACL, extended attributes, or an owner that cannot be given. ACLs and extended attributes in a tar archive are
restored by tar --acls --xattrs --xattrs-include='*' -xpf.`,
		Example: `  vitrine dump latest /etc/fstab
  vitrine dump latest:/srv/db all.sql | mysql
  vitrine dump --archive zip --target docs.zip latest /home/anna/docs`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runDump(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	o.register(f, ` when "latest" is asked for`)
	f.StringVarP(&o.archive, "archive", "a", "tar", "`format` of the archive: tar or zip")
	f.StringVarP(&o.target, "target", "t", "", "write to this `file`, not to standard output; what it replaces stays until all is written, and gives it mode and owner")
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
	sn, root, err := findTree(ctx, r, args[0], o.filter())
	if err != nil {
		return err
	}
	write, err := dumper(ctx, r, format, root, args[1])
	if err != nil {
		return fmt.Errorf("cannot dump file: %w", whereToLook(err, sn))
	}
	if o.target == "" {
		return write(a.stdout)
	}
	return dump.ToFile(o.target, write)
}

// dumper finds what is at the path below a tree; what it returns writes that.
func dumper(ctx context.Context, r *repo.Repository, format dump.Format, root blob.ID, file string) (func(io.Writer) error, error) {
	name := path.Clean("/" + file)
	node, err := r.FindNode(ctx, root, name)
	if err != nil {
		return nil, err
	}
	archive := node.Type == snapshot.Dir && node.Subtree != nil
	if !archive && node.Type != snapshot.File {
		return nil, fmt.Errorf("%q should be a file, but is a %q", name, node.Type)
	}
	return func(w io.Writer) error {
		var err error
		if archive {
			err = dump.Archive(ctx, r, format, *node.Subtree, name, w)
		} else {
			err = dump.File(ctx, r, node, w)
		}
		if err != nil {
			return fmt.Errorf("dump %s: %w", name, err)
		}
		return nil
	}, nil
}
