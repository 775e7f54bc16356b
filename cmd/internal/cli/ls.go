package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	iofs "io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// lsOptions are the flags of ls.
type lsOptions struct {
	filterFlags
	long, human bool
	recursive   bool
	ncdu        bool
	sort        string
	reverse     bool
}

func newLs(a *app) *cobra.Command {
	var o lsOptions
	cmd := &cobra.Command{
		Use:   "ls [flags] snapshotID[:path] [dir...]",
		Short: "List the files of a snapshot",
		Long: `Lists the files of a snapshot, which is named by its ID or as "latest"; with :path the
listing begins at that directory. Further arguments are absolute paths of directories:
only these and what is directly in them is listed, or with --recursive everything below.

--ncdu writes what the program ncdu reads with -f, always with everything below the directories: it
shows what takes how much space. Sizes are those of the files, without what is shared or compressed.`,
		Example: `  vitrine ls latest
  vitrine ls -l latest /home/anna
  vitrine ls -l --sort size --reverse latest
  vitrine ls --host db1 latest:/etc
  vitrine ls --ncdu latest | ncdu -f-`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runLs(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	o.register(f, ` when "latest" is asked for`)
	f.BoolVarP(&o.long, "long", "l", false, "show mode, owner, size and time too")
	f.BoolVar(&o.human, "human-readable", false, "with --long, show sizes in units for people")
	f.BoolVar(&o.ncdu, "ncdu", false, "write an export for the program ncdu")
	f.BoolVar(&o.recursive, "recursive", false, "list everything below the directories")
	f.StringVarP(&o.sort, "sort", "s", "name", "the `order`: name, size, time (or mtime), atime, ctime or extension")
	f.BoolVar(&o.reverse, "reverse", false, "list in the opposite order")
	return cmd
}

func (a *app) runLs(ctx context.Context, o lsOptions, args []string) error {
	if len(args) == 0 {
		return usagef("vitrine ls", `name a snapshot by its ID, or as "latest"`)
	}
	order, err := lsOrder(o.sort, o.reverse)
	if err != nil {
		return usagef("vitrine ls", "%w", err)
	}
	switch {
	case o.ncdu && a.print.JSONMode():
		return usagef("vitrine ls", "--ncdu and --json exclude each other")
	case o.ncdu && (order != nil || o.long):
		return usagef("vitrine ls", "--ncdu has an order and fields of its own: leave out --sort, --reverse and --long")
	}
	dirs := make([]string, 0, len(args)-1)
	for _, d := range args[1:] {
		if !path.IsAbs(d) {
			return usagef("vitrine ls", "%q: give directories as absolute paths, as they are in the snapshot", d)
		}
		dirs = append(dirs, path.Clean(d))
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
	out := bufio.NewWriterSize(a.stdout, 64<<10)
	p := lister{json: a.print.JSONMode(), long: o.long, human: o.human, out: out}
	l := listing{r: r, dirs: dirs, missing: make(map[string]bool), recursive: o.recursive || o.ncdu, show: p.node}
	for _, d := range dirs {
		l.missing[d] = d != "/" // which is no node
	}
	if !o.ncdu {
		err = p.head(sn, dirs, a.print.Quiet())
	}
	switch {
	case err != nil:
	case o.ncdu:
		_, below, _ := strings.Cut(args[0], ":")
		n := ncdu{&l, out}
		err = n.write(ctx, sn, root, path.Join("/", below))
	case order == nil:
		err = l.tree(ctx, root, "/")
	default:
		err = l.ordered(ctx, root, order)
	}
	if err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	for _, d := range dirs {
		if l.missing[d] { // no error: scripts that restic serves count on an empty list
			a.print.Warn("there is no %s in snapshot %s", d, sn.ID.Short())
			delete(l.missing, d) // it may be named twice
		}
	}
	return nil
}

// listing goes through the trees of a snapshot in the order of the paths.
type listing struct {
	r         *repo.Repository
	dirs      []string        // absolute and clean; none means everything
	missing   map[string]bool // those of dirs that were not come across yet
	recursive bool
	show      func(path string, n *snapshot.Node) error
}

func (l *listing) tree(ctx context.Context, id blob.ID, dir string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	nodes, err := l.r.LoadTree(ctx, id)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	for i := range nodes {
		n := &nodes[i]
		p := path.Join(dir, n.Name)
		delete(l.missing, p)
		if l.wanted(p) {
			if err := l.show(p, n); err != nil {
				return err
			}
		}
		if n.Subtree != nil && l.leadsOn(p) {
			if err := l.tree(ctx, *n.Subtree, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// wanted reports whether the node at p is to be listed.
func (l *listing) wanted(p string) bool {
	return len(l.dirs) == 0 || slices.ContainsFunc(l.dirs, func(d string) bool {
		return p == d || path.Dir(p) == d || l.recursive && below(p, d)
	})
}

// leadsOn reports whether anything below the directory p may be wanted.
func (l *listing) leadsOn(p string) bool {
	return len(l.dirs) == 0 || slices.ContainsFunc(l.dirs, func(d string) bool {
		return p == d || below(d, p) || l.recursive && below(p, d)
	})
}

// below reports whether p is inside the directory dir.
func below(p, dir string) bool {
	return dir == "/" && p != "/" || strings.HasPrefix(p, dir+"/")
}

// lister prints snapshots and nodes, for people or for programs.
type lister struct {
	json, long bool
	human      bool // sizes in units for people
	out        io.Writer
}

// lsSnapshot is the first message of ls --json. struct_type is the old name of message_type.
type lsSnapshot struct {
	snapshotJSON
	MessageType string `json:"message_type"` // snapshot
	StructType  string `json:"struct_type"`  // snapshot
}

// lsNode is one file in ls --json.
type lsNode struct {
	Name        string        `json:"name"`
	Type        string        `json:"type"`
	Path        string        `json:"path"`
	UID         uint32        `json:"uid"`
	GID         uint32        `json:"gid"`
	Size        *uint64       `json:"size,omitempty"` // files only
	Mode        iofs.FileMode `json:"mode,omitempty"`
	Permissions string        `json:"permissions,omitempty"`
	ModTime     time.Time     `json:"mtime"`
	AccessTime  time.Time     `json:"atime"`
	ChangeTime  time.Time     `json:"ctime"`
	Inode       uint64        `json:"inode,omitempty"`
	MessageType string        `json:"message_type"` // node
	StructType  string        `json:"struct_type"`  // node
}

func (p *lister) head(sn *snapshot.Snapshot, dirs []string, quiet bool) error {
	if p.json {
		return p.message(lsSnapshot{snapshotJSON{sn, sn.ID, sn.ID.Short()}, "snapshot", "snapshot"})
	}
	if quiet {
		return nil
	}
	_, err := fmt.Fprintf(p.out, "snapshot %s of %v at %s by %s@%s filtered by %v:\n",
		sn.ID.Short(), sn.Paths, sn.Time.Local(), sn.Username, sn.Hostname, dirs)
	return err
}

func (p *lister) node(name string, n *snapshot.Node) error {
	var err error
	switch {
	case p.json:
		m := lsNode{
			Name: n.Name, Type: n.Type.String(), Path: name, UID: n.UID, GID: n.GID,
			Mode: n.Mode, Permissions: n.Mode.String(),
			ModTime: n.ModTime, AccessTime: n.AccessTime, ChangeTime: n.ChangeTime, Inode: n.Inode,
			MessageType: "node", StructType: "node",
		}
		if n.Type == snapshot.File {
			m.Size = &n.Size
		}
		return p.message(m)
	case p.long:
		target := ""
		if n.Type == snapshot.Symlink {
			target = " -> " + n.LinkTarget
		}
		size := strconv.FormatUint(n.Size, 10)
		if p.human {
			size = progress.Bytes(n.Size)
		}
		_, err = fmt.Fprintf(p.out, "%s %5d %5d %6s %s %s%s\n",
			n.Mode, n.UID, n.GID, size, n.ModTime.Local().Format(timeFormat), name, target)
	default:
		_, err = fmt.Fprintln(p.out, name)
	}
	return err
}

func (p *lister) message(v any) error { return json.NewEncoder(p.out).Encode(v) }
