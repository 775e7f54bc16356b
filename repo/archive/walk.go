package archive

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vitrine/repo/snapshot"
	"vitrine/repo/source"
)

// place is a directory of the source, open while entries of it are in work.
type place struct {
	*source.Dir
	abs     string          // absolute path
	pos     source.Position // what the exclude patterns have seen of abs
	kept    source.Kept     // what the tag files in it leave
	device  uint64          // its own
	allowed uint64          // file system that its entries may be on
	back    bool            // it was taken from the back of the directory above

	refs atomic.Int32 // the last one to let go closes Dir
}

func (p *place) retain() *place {
	p.refs.Add(1)
	return p
}

func (p *place) release() {
	if p.refs.Add(-1) == 0 {
		p.Close()
	}
}

// group is a run of entries of one directory that are not directories themselves.
type group struct {
	at      *place // retain it to keep it beyond the call
	entries []source.Entry
	name    string // in the snapshot, when it differs from the name on disk of the only entry
	target  bool   // named by the user: may be on any file system
	back    bool   // taken from the back of the directory
}

// visitor is told of the source in depth-first order. Of the groups and subdirectories of a directory those that are taken
// from its front come in byte order of their names in the snapshot, those from its back in the opposite order, and all
// of the former are before all of the latter. The entries of a group are in order in any case.
type visitor interface {
	// enter opens a directory of the snapshot; what follows is in it until leave. at is the
	// directory itself, st its metadata.
	enter(name string, at *place, st *source.Stat)
	leave(ctx context.Context)
	// files gets entries not yet looked at: patterns, sizes and devices are the visitor's to ask for
	// (see wanted), in parallel if it likes.
	files(ctx context.Context, g group) error
	// failed tells of something that is left out because it cannot be read; path is absolute.
	failed(path string, err error)
}

// walker goes through the source as planned.
type walker struct {
	filter *source.Filter
	groups int // entries of a group, at most
	// backwards takes what is in a directory from its back; see Options.Backwards. It may change at any time.
	backwards *atomic.Bool
	log       *slog.Logger
}

// ends goes through n things, each time taking the next one from the end that backwards says just then. It tells which
// one it is, and whether it comes from the back.
func ends(backwards *atomic.Bool, n int) iter.Seq2[int, bool] {
	return func(yield func(int, bool) bool) {
		for first, end := 0, n; first < end; {
			i, back := first, backwards.Load()
			if back {
				end--
				i = end
			} else {
				first++
			}
			if !yield(i, back) {
				return
			}
		}
	}
}

// root walks the whole plan.
func (w *walker) root(ctx context.Context, plan *source.Branch, v visitor) error {
	bases := make(map[string]*place)
	defer func() {
		for _, at := range bases {
			at.release()
		}
	}()
	for i, back := range ends(w.backwards, len(plan.Children)) {
		b := plan.Children[i]
		dir := filepath.Dir(b.Path)
		at, ok := bases[dir]
		if !ok {
			var err error
			if at, err = w.waypoint(dir); err != nil {
				v.failed(absolute(b.Path), err)
				continue
			}
			bases[dir] = at
		}
		if err := w.branch(ctx, at, b, false, back, v); err != nil {
			return err
		}
	}
	return nil
}

// waypoint opens a directory that leads to targets.
func (w *walker) waypoint(path string) (*place, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	d, err := source.OpenWaypoint(path)
	if err != nil {
		return nil, err
	}
	at := &place{Dir: d, abs: abs, pos: w.filter.At(abs)}
	at.refs.Store(1)
	at.kept = w.tagged(d, nil)
	return at, nil
}

// tagged warns of tag files that cannot be read: they exclude nothing.
func (w *walker) tagged(d *source.Dir, entries []source.Entry) source.Kept {
	kept, err := w.filter.Tagged(d, entries)
	if err != nil {
		w.log.Warn("tag file excludes nothing", "error", err)
	}
	return kept
}

// branch visits one branch of the plan; at is the directory it is in. whole says that an
// ancestor is a target, so that everything below is wanted, and not just what the plan names.
func (w *walker) branch(ctx context.Context, at *place, b *source.Branch, whole, back bool, v visitor) error {
	disk := filepath.Base(b.Path)
	onlyTarget := b.Target && len(b.Children) == 0
	if onlyTarget && (!at.kept.Keeps(disk) || w.filter.ExcludesName(at.pos, disk)) {
		return nil
	}
	var st source.Stat
	var d *source.Dir
	var err error
	if onlyTarget {
		// A link is a target itself, so it is not followed here.
		if err = at.Stat(disk, &st); err == nil && source.NodeType(&st) != snapshot.Dir {
			g := group{at: at, entries: []source.Entry{{Name: disk, Type: unix.DT_UNKNOWN}}, target: true, back: back}
			if b.Name != disk {
				g.name = b.Name
			}
			return v.files(ctx, g)
		}
	}
	whole = whole || b.Target
	if err == nil {
		if whole {
			d, err = source.OpenDir(b.Path)
		} else {
			d, err = source.OpenWaypoint(b.Path)
		}
	}
	if err != nil {
		v.failed(join(at.abs, disk), err)
		return nil
	}
	return w.enter(ctx, at, &place{Dir: d, back: back}, b.Name, disk, b, whole, v)
}

// enter visits the open directory at, called disk in up and name in the snapshot. It fills in at, and releases it.
func (w *walker) enter(ctx context.Context, up, at *place, name, disk string, b *source.Branch, whole bool, v visitor) error {
	at.abs, at.pos, at.allowed = join(up.abs, disk), w.filter.Enter(up.pos, disk), up.allowed
	at.refs.Store(1)
	defer at.release()
	var st source.Stat
	if err := at.Stat(".", &st); err != nil {
		v.failed(at.abs, err)
		return nil
	}
	at.device = uint64(st.Dev)
	if b != nil && b.Target {
		at.allowed = at.device
	}
	var entries []source.Entry
	if whole {
		var err error
		if entries, err = at.Entries(); err != nil {
			v.failed(at.abs, err)
			return nil
		}
		at.kept = w.tagged(at.Dir, entries)
	} else {
		at.kept = w.tagged(at.Dir, nil)
	}
	v.enter(name, at, &st)
	defer v.leave(ctx)
	if b == nil || len(b.Children) == 0 {
		return w.entries(ctx, at, entries, v)
	}
	return w.branches(ctx, at, entries, b.Children, v, whole)
}

// branches visits the entries of a directory, of which some are branches of the plan. Those may
// be hidden from the listing, as snapshot directories of file systems are. When there are other entries between them,
// the walk does not turn until all is done.
func (w *walker) branches(ctx context.Context, at *place, entries []source.Entry, planned []*source.Branch, v visitor, whole bool) error {
	if len(entries) > 0 {
		back := new(atomic.Bool)
		back.Store(w.backwards.Load())
		fixed := *w
		fixed.backwards = back
		w = &fixed
	}
	for p, back := range ends(w.backwards, len(planned)) {
		b := planned[p]
		i, listed := slices.BinarySearchFunc(entries, b.Name, func(e source.Entry, name string) int {
			return strings.Compare(e.Name, name)
		})
		after := i
		if listed {
			after++
		}
		first, rest := entries[:i], entries[after:]
		if back {
			first, rest = rest, first
		}
		if err := w.entries(ctx, at, first, v); err != nil {
			return err
		}
		if err := w.branch(ctx, at, b, whole, back, v); err != nil {
			return err
		}
		entries = rest
	}
	return w.entries(ctx, at, entries, v)
}

// entries visits what a directory has.
func (w *walker) entries(ctx context.Context, at *place, entries []source.Entry, v visitor) error {
	start, end := 0, 0 // of the group being collected
	fromBack := false  // where it is from
	flush := func() error {
		var err error
		if start < end {
			err = v.files(ctx, group{at: at, entries: entries[start:end], back: fromBack})
		}
		start, end = 0, 0
		return err
	}
	for i, back := range ends(w.backwards, len(entries)) {
		isDir := w.isDir(at, &entries[i])
		if isDir || back != fromBack {
			if err := flush(); err != nil {
				return err
			}
		}
		if isDir {
			descended, err := w.descend(ctx, at, entries[i].Name, back, v)
			if err != nil {
				return err
			}
			if descended {
				continue
			}
			// It is no directory any more, and a file like the others.
		}
		if start == end {
			start, end, fromBack = i, i+1, back
		} else {
			start, end = min(start, i), max(end, i+1)
		}
		if end-start == w.groups {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// isDir asks the file system where the listing does not tell.
func (w *walker) isDir(at *place, e *source.Entry) bool {
	if e.Type == unix.DT_UNKNOWN {
		var st source.Stat
		// An error is told by whoever looks at the file.
		if at.Stat(e.Name, &st) == nil && source.NodeType(&st) == snapshot.Dir {
			e.Type = unix.DT_DIR
		}
	}
	return e.Type == unix.DT_DIR
}

// descend visits a directory that was listed in at. It returns false when it is none.
func (w *walker) descend(ctx context.Context, at *place, name string, back bool, v visitor) (bool, error) {
	if err := ctx.Err(); err != nil {
		return true, err
	}
	if !at.kept.Keeps(name) || w.filter.ExcludesName(at.pos, name) {
		return true, nil
	}
	if w.filter.StaysOnDevice() {
		// Looked at before it is opened, which could wake an automounter.
		var st source.Stat
		if err := at.Stat(name, &st); err != nil {
			v.failed(join(at.abs, name), err)
			return true, nil
		}
		if w.filter.ExcludesDevice(&st, at.allowed, at.device) {
			return true, nil
		}
	}
	d, err := at.OpenDir(name)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return false, nil
	}
	if err != nil {
		v.failed(join(at.abs, name), err)
		return true, nil
	}
	return true, w.enter(ctx, at, &place{Dir: d, back: back}, name, name, nil, true, v)
}

// wanted reports whether the filter leaves an entry of a group in, going by its name.
func wanted(f *source.Filter, g *group, name string) bool {
	return g.target || g.at.kept.Keeps(name) && !f.ExcludesName(g.at.pos, name)
}

// wantedStat reports whether the filter leaves it in, going by its metadata.
func wantedStat(f *source.Filter, g *group, st *source.Stat) bool {
	return !f.ExcludesSize(st) && (g.target || !f.ExcludesDevice(st, g.at.allowed, g.at.device))
}

func join(dir, name string) string {
	if strings.HasSuffix(dir, "/") {
		return dir + name
	}
	return dir + "/" + name
}
