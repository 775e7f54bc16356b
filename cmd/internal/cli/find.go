package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/find"
	"vitrine/repo/snapshot"
)

// findOptions are the flags of find.
type findOptions struct {
	filterFlags
	oldest, newest   string
	snapshots        []string
	blob, tree, pack bool
	showPack         bool
	ignoreCase       bool
	reverse          bool
	long, human      bool
}

func newFind(a *app) *cobra.Command {
	var o findOptions
	cmd := &cobra.Command{
		Use:   "find [flags] PATTERN...",
		Short: "Find files and directories in all snapshots",
		Long: `Finds files and directories by their names in all snapshots, or in those that are selected, the
newest first. A pattern may have * ? [a-z] and, for any number of directories, **; with a slash at
the beginning it is the whole path, else it may begin at any directory. What is in a directory
that matches is found, too.

With --blob, --tree or --pack the arguments are IDs, or beginnings of IDs, and what is found is where
in the snapshots these blobs or directories are, or what is in these packs.`,
		Example: `  vitrine find config.json
  vitrine find -l -i '*.jpg' --oldest 2024-07-01 --newest '2024-07-31 23:59:59'
  vitrine find --host db1 '/etc/**/*.conf' --json
  vitrine find --show-pack-id --blob 420f620f
  vitrine find --tree 577c2bc9
  vitrine find --pack 025c1d06`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runFind(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	o.register(f, "")
	f.StringArrayVarP(&o.snapshots, "snapshot", "s", nil, "search the snapshot with this `ID`, or latest (repeatable)")
	f.BoolVarP(&o.ignoreCase, "ignore-case", "i", false, "upper and lower case of the pattern are equal")
	f.StringVarP(&o.oldest, "oldest", "O", "", "only what was changed at this `time` or later: 2006-01-02, '2006-01-02 15:04' or '2006-01-02 15:04:05'")
	f.StringVarP(&o.newest, "newest", "N", "", "only what was changed at this `time` or before, as for --oldest")
	f.BoolVarP(&o.long, "long", "l", false, "show mode, owner, size and time too")
	f.BoolVar(&o.human, "human-readable", false, "with --long, show sizes in units for people")
	f.BoolVarP(&o.reverse, "reverse", "R", false, "begin with the oldest snapshot")
	f.BoolVar(&o.blob, "blob", false, "find the files that have the blobs with these IDs")
	f.BoolVar(&o.tree, "tree", false, "find the directories whose trees have these IDs")
	f.BoolVar(&o.pack, "pack", false, "find what is in the packs with these IDs")
	f.BoolVar(&o.showPack, "show-pack-id", false, "with --blob and --tree, tell in which pack each is")
	return cmd
}

// findTimes are the ways to write a time. The first are for people, the last is what date(1) prints.
var findTimes = []string{
	"2006-01-02", "2006-01-02 15:04", timeFormat, "2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05 MST",
	"02.01.2006", "02.01.2006 15:04", "02.01.2006 15:04:05", "02.01.2006 15:04:05 -0700", "02.01.2006 15:04:05 MST",
	"Mon Jan 2 15:04:05 -0700 MST 2006",
}

// findTime reads the value of --oldest or --newest; none is the zero time.
func findTime(flag, value string) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	for _, layout := range findTimes {
		if t, err := time.ParseInLocation(layout, value, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("--%s %q: write a time as 2006-01-02, '2006-01-02 15:04' or '2006-01-02 15:04:05'", flag, value)
}

// query makes what the flags and arguments say, as far as that needs no repository.
func (o *findOptions) query(args []string) (find.Query, error) {
	var q find.Query
	var err error
	if len(args) == 0 {
		return q, errors.New("name a pattern, or with --blob, --tree or --pack an ID")
	}
	kinds := 0
	for _, set := range []bool{o.blob, o.tree, o.pack} {
		if set {
			kinds++
		}
	}
	if kinds > 1 {
		return q, errors.New("--blob, --tree and --pack exclude each other")
	}
	if q.Oldest, err = findTime("oldest", o.oldest); err != nil {
		return q, err
	}
	if q.Newest, err = findTime("newest", o.newest); err != nil {
		return q, err
	}
	if err := q.Check(); err != nil {
		return q, fmt.Errorf("--oldest and --newest: %w", err)
	}
	if kinds == 0 {
		q.Names, err = find.Names(args, o.ignoreCase)
		return q, err
	}
	ids, err := find.ParseIDs(args)
	if o.blob {
		q.Blobs = ids
	} else if o.tree {
		q.Trees = ids
	}
	return q, err
}

func (a *app) runFind(ctx context.Context, o findOptions, args []string) error {
	q, err := o.query(args)
	if err != nil {
		return usagef("vitrine find", "%w", err)
	}
	r, err := a.openRepository(ctx, wiring.CachedIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	if o.pack {
		if q.Blobs, q.Trees, err = find.InPacks(ctx, r, args); err != nil {
			return err
		}
	}
	list, damaged := a.selectSnapshots(ctx, r, o.snapshots, o.filter())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !o.reverse {
		slices.Reverse(list)
	}
	out := bufio.NewWriterSize(a.stdout, 64<<10)
	s := &search{a: a, r: r, o: o, out: out, seen: make(map[blob.Handle]bool)}
	if a.print.JSONMode() {
		s.show = &findJSON{out: out, r: r, packs: o.showPack}
	} else {
		s.show = &findText{out: out, quiet: a.print.Quiet(), lister: lister{long: o.long, human: o.human, out: out}}
	}
	err = s.run(ctx, find.New(r, q), list)
	if err == nil && !a.print.JSONMode() {
		err = s.tellPacks(q)
	}
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	if err == nil && s.damaged > 0 {
		advice := "; `vitrine check` tells what is damaged"
		if s.missing {
			advice = missingAdvice
		}
		err = fmt.Errorf("find: %d directories could not be read, so what is in them is not found%s", s.damaged, advice)
	}
	s.tellMissing(args)
	return errors.Join(err, damaged)
}

// search is one search at work.
type search struct {
	a       *app
	r       *repo.Repository
	o       findOptions
	out     *bufio.Writer
	show    findPrinter
	seen    map[blob.Handle]bool // blobs and trees that were found by ID
	damaged int                  // directories that could not be read
	missing bool                 // one of them is in no index
}

// findPrinter shows what is found.
type findPrinter interface {
	match(sn *snapshot.Snapshot, m *find.Match) error
	end() error
}

func (s *search) run(ctx context.Context, f *find.Finder, list []*snapshot.Snapshot) error {
	for _, sn := range list {
		found := func(m find.Match) error {
			switch m.Kind {
			case find.Blob:
				s.seen[blob.Handle{Type: blob.Data, ID: m.ID}] = true
			case find.Tree:
				s.seen[blob.Handle{Type: blob.Tree, ID: m.ID}] = true
			}
			return s.show.match(sn, &m)
		}
		err := f.Snapshot(ctx, *sn.Tree, found, func(_ string, err error) error {
			s.damaged++
			s.missing = s.missing || errors.Is(err, repo.ErrBlobMissing)
			s.a.print.Warn("snapshot %s: %v", sn.ID.Short(), err)
			return nil
		})
		if err != nil {
			return fmt.Errorf("find in snapshot %s: %w", sn.ID.Short(), err)
		}
	}
	return s.show.end()
}

// tellPacks says in which packs the blobs and trees are that were found.
func (s *search) tellPacks(q find.Query) error {
	if !s.o.showPack || q.Names != nil {
		return nil
	}
	for _, h := range sortedHandles(s.seen) {
		loc, ok, err := s.r.LookupBlob(h)
		if err != nil {
			return err
		}
		if !ok {
			s.a.print.Warn("%v is in no index", h)
			continue
		}
		plain := ""
		if loc.Compressed() {
			plain = fmt.Sprintf(", uncompressed length %d", loc.PlainBytes)
		}
		fmt.Fprintf(s.out, "Object belongs to pack %v\n ... Pack %s: <Blob (%v) %s, offset %d, length %d%s>\n",
			loc.Pack, loc.Pack.Short(), h.Type, h.ID.Short(), loc.OffsetBytes, loc.LengthBytes, plain)
	}
	return nil
}

// tellMissing warns of IDs that are in none of the snapshots. For restic, too, that is no error.
func (s *search) tellMissing(args []string) {
	what := "blob"
	if s.o.tree {
		what = "tree"
	} else if !s.o.blob {
		return
	}
	for _, arg := range args {
		found := false
		for h := range s.seen {
			found = found || strings.HasPrefix(h.ID.String(), strings.ToLower(arg))
		}
		if !found {
			s.a.print.Warn("no %s %s in these snapshots", what, arg)
		}
	}
}

func sortedHandles(set map[blob.Handle]bool) []blob.Handle {
	list := make([]blob.Handle, 0, len(set))
	for h := range set {
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b blob.Handle) int {
		if a.Type != b.Type {
			return int(a.Type) - int(b.Type)
		}
		return a.ID.Compare(b.ID)
	})
	return list
}
