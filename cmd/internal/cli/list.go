package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// listKinds are the words of list that name files; "blobs" is the one that does not.
var listKinds = map[string]backend.Kind{
	"packs": backend.Pack, "snapshots": backend.Snapshot, "index": backend.Index, "keys": backend.Key, "locks": backend.Lock,
}

func newList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list [flags] [blobs|packs|index|snapshots|keys|locks]",
		Short: "List the IDs of what is stored",
		Long: `Lists the IDs of all stored objects of one kind, one to a line and in no particular
order. A blob is listed with its type, once for each place that the index knows.`,
		Example:   "  vitrine list snapshots\n  vitrine list blobs",
		ValidArgs: []string{"blobs", "packs", "index", "snapshots", "keys", "locks"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("vitrine list", "name one kind: blobs, packs, index, snapshots, keys or locks")
			}
			return a.runList(cmd.Context(), args[0])
		},
	}
}

func (a *app) runList(ctx context.Context, what string) error {
	kind, isFile := listKinds[what]
	if !isFile && what != "blobs" {
		hint := didYouMean("", what, []string{"blobs", "packs", "index", "snapshots", "keys", "locks"})
		if hint == "" {
			hint = ": choose blobs, packs, index, snapshots, keys or locks"
		}
		return usagef("vitrine list", "unknown kind %q%s", what, hint)
	}
	r, err := a.openRepository(ctx, wiring.NoIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	out := bufio.NewWriterSize(a.stdout, 64<<10)
	if isFile {
		err = listFiles(ctx, r, kind, out)
	} else {
		err = listBlobs(ctx, r, out)
	}
	if err != nil {
		return err
	}
	return out.Flush()
}

func listFiles(ctx context.Context, r *repo.Repository, kind backend.Kind, w io.Writer) error {
	return r.Backend().List(ctx, kind, func(info backend.Info) error {
		_, err := fmt.Fprintln(w, info.Name)
		return err
	})
}

// listBlobs goes through the index files of the repository, so that it needs no memory for them.
func listBlobs(ctx context.Context, r *repo.Repository, w io.Writer) error {
	infos, err := r.IndexFiles(ctx)
	if err != nil {
		return err
	}
	for _, info := range infos {
		id, err := blob.ParseID(info.Name)
		if err != nil {
			return err
		}
		err = r.LoadIndexFile(ctx, id, func(e blob.Entry) error {
			_, err := fmt.Fprintf(w, "%v %v\n", e.Type, e.ID)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
