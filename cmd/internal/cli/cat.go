package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// maxPackFileBytes bounds what cat pack loads: the largest pack that the format's writers make is
// the largest pack size and one blob.
const maxPackFileBytes = 1 << 30

// catters print one object each. Only those of blobs and trees need the index.
var catters = map[string]struct {
	print func(ctx context.Context, r *repo.Repository, spec string) ([]byte, error)
	noID  bool
	index bool
}{
	"config": {noID: true, print: func(ctx context.Context, r *repo.Repository, _ string) ([]byte, error) {
		return indented(r.ConfigJSON(ctx))
	}},
	"masterkey": {noID: true, print: func(_ context.Context, r *repo.Repository, _ string) ([]byte, error) {
		return indented(r.MasterKeyJSON())
	}},
	"key":      {print: catKey},
	"index":    {print: catIndex},
	"lock":     {print: catLock},
	"snapshot": {print: catSnapshot},
	"pack":     {print: catPack},
	"blob":     {print: catBlob, index: true},
	"tree":     {print: catTree, index: true},
}

func newCat(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "cat [flags] [masterkey|config|pack ID|blob ID|snapshot ID|index ID|key ID|lock ID|tree snapshot[:path]]",
		Short: "Print one stored object",
		Long: `Prints one stored object, decrypted: JSON for people where it is JSON, the bytes of a blob
or a tree, and of a pack the bytes as stored. An ID may be shortened as long as it is
unambiguous, except that of a blob. Note that the master key opens the whole repository.`,
		Example:   "  vitrine cat config\n  vitrine cat snapshot latest\n  vitrine cat tree latest:/home",
		ValidArgs: []string{"masterkey", "config", "pack", "blob", "snapshot", "index", "key", "lock", "tree"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("vitrine cat", "say what to print: masterkey, config, or a pack, blob, snapshot, index, key, lock or tree")
			}
			c, ok := catters[args[0]]
			switch {
			case !ok:
				return usagef("vitrine cat", "unknown kind %q%s", args[0], didYouMean("", args[0], cmd.ValidArgs))
			case c.noID && len(args) > 1:
				return usagef("vitrine cat", "there is only one %s: leave the ID out", args[0])
			case !c.noID && len(args) != 2:
				return usagef("vitrine cat", "name the ID of one %s", args[0])
			}
			return a.runCat(cmd.Context(), args[0], strings.Join(args[1:], ""))
		},
	}
}

func (a *app) runCat(ctx context.Context, kind, spec string) error {
	use := wiring.NoIndex
	if catters[kind].index {
		use = wiring.CachedIndex
	}
	r, err := a.openRepository(ctx, use)
	if err != nil {
		return err
	}
	defer r.Close()
	out, err := catters[kind].print(ctx, r, spec)
	if errors.Is(err, errNotAsNamed) { // printed all the same: it is asked for to look at it
		a.print.Warn("Warning: %v", err)
	} else if err != nil {
		return err
	}
	_, err = a.stdout.Write(out)
	return err
}

// errNotAsNamed is the error of a file that is printed as it is stored, and is damaged.
var errNotAsNamed = errors.New("content does not match its name")

// asNamed adds errNotAsNamed to content whose name is another one.
func asNamed(kind backend.Kind, id blob.ID, content []byte) ([]byte, error) {
	if blob.Hash(content) != id {
		return content, fmt.Errorf("%v/%s: %w", kind, id.Short(), errNotAsNamed)
	}
	return content, nil
}

// indented lays JSON out for people.
func indented(p []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, p, "", "  "); err != nil {
		return nil, fmt.Errorf("it is no JSON: %w", err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

func catKey(ctx context.Context, r *repo.Repository, spec string) ([]byte, error) {
	id, err := r.Resolve(ctx, backend.Key, spec)
	if err != nil {
		return nil, err
	}
	content, err := r.KeyFile(ctx, id)
	if err != nil {
		return nil, err
	}
	out, err := indented(content, nil)
	if err == nil {
		_, err = asNamed(backend.Key, id, content)
	}
	return out, err
}

func catIndex(ctx context.Context, r *repo.Repository, spec string) ([]byte, error) {
	id, err := r.Resolve(ctx, backend.Index, spec)
	if err != nil {
		return nil, err
	}
	plain, err := r.ReadFile(ctx, backend.Index, id)
	if err != nil {
		return nil, err
	}
	return append(plain, '\n'), nil // megabytes on one line: for programs
}

func catLock(ctx context.Context, r *repo.Repository, spec string) ([]byte, error) {
	id, err := r.Resolve(ctx, backend.Lock, spec)
	if err != nil {
		return nil, err
	}
	return indented(r.ReadFile(ctx, backend.Lock, id))
}

func catSnapshot(ctx context.Context, r *repo.Repository, spec string) ([]byte, error) {
	sn, err := r.FindSnapshot(ctx, spec, snapshot.Filter{})
	if err != nil {
		return nil, err
	}
	return indented(r.ReadFile(ctx, backend.Snapshot, sn.ID))
}

// catPack returns the pack as it is stored, also when it is damaged: that is when one looks.
func catPack(ctx context.Context, r *repo.Repository, spec string) ([]byte, error) {
	id, err := r.Resolve(ctx, backend.Pack, spec)
	if err != nil {
		return nil, err
	}
	content, err := r.Backend().ReadAll(ctx, backend.File{Kind: backend.Pack, Name: id.String()}, maxPackFileBytes)
	if err != nil {
		return nil, err
	}
	return asNamed(backend.Pack, id, content)
}

// catBlob looks for a data blob first, then for a tree.
func catBlob(ctx context.Context, r *repo.Repository, spec string) ([]byte, error) {
	id, err := blob.ParseID(spec)
	if err != nil {
		return nil, err
	}
	for _, t := range []blob.Type{blob.Data, blob.Tree} {
		plain, err := r.ReadBlob(ctx, blob.Handle{Type: t, ID: id}, nil)
		if !errors.Is(err, repo.ErrBlobMissing) {
			return plain, err
		}
	}
	return nil, fmt.Errorf("blob %s: %v", spec, repo.ErrBlobMissing) // not of its class: nobody has said that it must be there
}

// catTree prints the tree of a directory of a snapshot, or the tree with an ID.
func catTree(ctx context.Context, r *repo.Repository, spec string) ([]byte, error) {
	if id, err := blob.ParseID(spec); err == nil {
		plain, err := r.ReadBlob(ctx, blob.Handle{Type: blob.Tree, ID: id}, nil)
		if !errors.Is(err, repo.ErrBlobMissing) {
			return plain, err
		}
	}
	_, root, err := findTree(ctx, r, spec, snapshot.Filter{})
	if err != nil {
		return nil, err
	}
	return r.ReadBlob(ctx, blob.Handle{Type: blob.Tree, ID: root}, nil)
}

// whereToLook adds to an error of a path that leads nowhere what shows the paths that there are.
func whereToLook(err error, sn *snapshot.Snapshot) error {
	if !errors.Is(err, repo.ErrNoMatch) {
		return err
	}
	return repo.Advised(fmt.Errorf("%w; `vitrine ls %s` lists what is in it", err, sn.ID.Short()))
}

// findTree returns the snapshot that "snapshot[:path]" names, and the tree of the directory in it.
func findTree(ctx context.Context, r *repo.Repository, spec string, f snapshot.Filter) (*snapshot.Snapshot, blob.ID, error) {
	name, dir, _ := strings.Cut(spec, ":")
	sn, err := findSnapshot(ctx, r, name, f)
	if err != nil {
		return nil, blob.ID{}, err
	}
	if sn.Tree == nil {
		return nil, blob.ID{}, fmt.Errorf("snapshot %s: %w: it has no tree", sn.ID.Short(), repo.ErrCorrupt)
	}
	node, err := r.FindNode(ctx, *sn.Tree, dir)
	if err != nil {
		return nil, blob.ID{}, fmt.Errorf("snapshot %s: %w", sn.ID.Short(), whereToLook(err, sn))
	}
	if node.Subtree == nil {
		return nil, blob.ID{}, repo.Advised(fmt.Errorf("snapshot %s: %s is not a directory; `vitrine dump %s %s` writes what is in a file, `vitrine restore --include` restores it",
			sn.ID.Short(), dir, sn.ID.Short(), dir))
	}
	return sn, *node.Subtree, nil
}
