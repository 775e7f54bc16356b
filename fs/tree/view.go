package tree

import (
	"cmp"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"vitrine/repo/snapshot"
)

// view is the lists of snapshots at one moment. It is not changed once it is made: a refresh
// makes another one, and nobody waits for it.
type view struct {
	lists map[NodeID]*list // every directory that is not in a snapshot, by ID
	links map[NodeID]*item // every symlink `latest`, by ID
	// past are the links of the view before: a program that has met one just before it
	// changed may still ask where it points.
	past map[NodeID]*item

	bytes, files uint64 // of all snapshots, as their summaries say

	shows bool // made by a Refresh
}

// list is a directory of the view.
type list struct {
	id, parent NodeID
	items      []item // sorted by name
	byName     map[string]int
	at         snapshot.Timespec // newest snapshot at or below it, or when it last changed
}

// item is an entry of a list: exactly one of below, sn and target is set.
type item struct {
	name   string
	id     NodeID // of a list or a symlink; directories of snapshots get theirs when held
	below  *list
	sn     *snapshot.Snapshot
	target string // of a symlink
	at     snapshot.Timespec
}

// latest is the name of the symlink to the newest snapshot of a list.
const latest = "latest"

func (l *list) find(name string) *item {
	if i, ok := l.byName[name]; ok {
		return &l.items[i]
	}
	return nil
}

// buildView lays out the snapshots, which are sorted by time. Lists that did not change keep the
// time they have in old, which may be nil; the others get now.
func buildView(sns []*snapshot.Snapshot, templates []template, timeForm string, old *view, now time.Time) *view {
	root := &draft{}
	for _, t := range templates {
		root.fixed(t)
		for _, sn := range sns {
			for _, path := range t.paths(sn, timeForm) {
				root.place(path, sn)
			}
		}
	}
	v := &view{lists: make(map[NodeID]*list), links: make(map[NodeID]*item)}
	if old != nil {
		v.past = old.links
	}
	root.freeze(v, Root, 0, old, timespec(now))
	for _, sn := range sns {
		if sn.Summary != nil {
			v.bytes += sn.Summary.TotalBytesProcessed
			v.files += sn.Summary.TotalFilesProcessed
		}
	}
	return v
}

// link returns a symlink, nil when there is none of that ID.
func (v *view) link(id NodeID) *item {
	if it := v.links[id]; it != nil {
		return it
	}
	return v.past[id]
}

// draft is a list under construction.
type draft struct {
	names  []string // in order of arrival
	subs   map[string]*draft
	sns    map[string]*snapshot.Snapshot
	newest string // name of the latest snapshot
}

func (d *draft) taken(name string) bool {
	return d.subs[name] != nil || d.sns[name] != nil
}

// sub returns the list of that name below d. Where a snapshot has the name, the list gets
// another one.
func (d *draft) sub(name string) *draft {
	for base, i := name, 1; d.sns[name] != nil; i++ {
		name = base + "-" + strconv.Itoa(i)
	}
	if s := d.subs[name]; s != nil {
		return s
	}
	s := &draft{}
	if d.subs == nil {
		d.subs = make(map[string]*draft)
	}
	d.subs[name] = s
	d.names = append(d.names, name)
	return s
}

// fixed makes the leading directories of a template that are there without any snapshot.
func (d *draft) fixed(t template) {
	for _, tokens := range t.components[:len(t.components)-1] {
		var name strings.Builder
		for _, k := range tokens {
			if k.verb != 0 {
				return
			}
			name.WriteString(k.text)
		}
		d = d.sub(cleanName(name.String()))
	}
}

// place puts a snapshot at the path; a name that is taken gets -1, -2 and so on.
func (d *draft) place(path []string, sn *snapshot.Snapshot) {
	for _, name := range path[:len(path)-1] {
		d = d.sub(name)
	}
	base := path[len(path)-1]
	name := base
	for i := 1; d.taken(name); i++ {
		name = base + "-" + strconv.Itoa(i)
	}
	if d.sns == nil {
		d.sns = make(map[string]*snapshot.Snapshot)
	}
	d.sns[name] = sn
	d.names = append(d.names, name)
	if n := d.sns[d.newest]; n == nil || !sn.Time.Before(n.Time) {
		d.newest = name
	}
}

// freeze turns the draft into a list of v and returns it.
func (d *draft) freeze(v *view, id, parent NodeID, old *view, now snapshot.Timespec) *list {
	l := &list{id: id, parent: parent}
	newest := snapshot.Timespec{}
	for _, name := range d.names {
		it := item{name: name}
		if sn := d.sns[name]; sn != nil {
			it.sn, it.at = sn, timespec(sn.Time)
		} else {
			it.id = instanceID(id, name)
			it.below = d.subs[name].freeze(v, it.id, id, old, now)
			it.at = it.below.at
		}
		if later(it.at, newest) {
			newest = it.at
		}
		l.items = append(l.items, it)
	}
	if sn := d.sns[d.newest]; sn != nil && !d.taken(latest) {
		l.items = append(l.items, item{name: latest, id: instanceID(id, latest+"\x00"+d.newest), target: d.newest, at: timespec(sn.Time)})
	}
	slices.SortFunc(l.items, func(a, b item) int { return strings.Compare(a.name, b.name) })
	l.byName = make(map[string]int, len(l.items))
	for i := range l.items {
		l.byName[l.items[i].name] = i
		if l.items[i].target != "" {
			v.links[l.items[i].id] = &l.items[i]
		}
	}
	l.at = newest
	if newest == (snapshot.Timespec{}) {
		l.at = now
	}
	if old != nil && old.lists[id] != nil {
		l.at = old.lists[id].at
		if !l.sameItems(old.lists[id]) {
			l.at = now
		}
	}
	v.lists[id] = l
	return l
}

// sameItems tells whether a reader of the list would see no difference.
func (l *list) sameItems(o *list) bool { return slices.EqualFunc(l.items, o.items, sameItem) }

func sameItem(a, b item) bool {
	return a.name == b.name && a.sn == b.sn && a.target == b.target && (a.below == nil) == (b.below == nil)
}

// changes returns the lists of v or old that are not the same in the other, by ID.
func (v *view) changes(old *view) []Change {
	var all []Change
	for id, l := range v.lists {
		if o := old.lists[id]; o == nil {
			all = append(all, Change{List: id})
		} else if !l.sameItems(o) {
			all = append(all, Change{List: id, Links: l.lostLinks(o)})
		}
	}
	for id, o := range old.lists {
		if v.lists[id] == nil {
			all = append(all, Change{List: id, Links: (&list{}).lostLinks(o)})
		}
	}
	slices.SortFunc(all, func(a, b Change) int { return cmp.Compare(a.List, b.List) })
	return all
}

// lostLinks returns the symlinks of old that l has not, or has for something else.
func (l *list) lostLinks(old *list) (names []string) {
	for i := range old.items {
		was := &old.items[i]
		if is := l.find(was.name); was.target != "" && (is == nil || !sameItem(*is, *was)) {
			names = append(names, was.name)
		}
	}
	return names
}

func timespec(t time.Time) snapshot.Timespec {
	return snapshot.Timespec{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}
}

func later(a, b snapshot.Timespec) bool {
	return a.Sec > b.Sec || a.Sec == b.Sec && a.Nsec > b.Nsec
}

// attr returns the attributes of an item that is not a snapshot.
func (t *Tree) itemAttr(it *item) Attr {
	if it.below != nil {
		return t.attrOfList(it.below)
	}
	a := t.listAttr(it.id, fs.ModeSymlink|0o777, it.at)
	a.Size = uint64(len(it.target))
	a.Volatile = true
	return a
}

func (t *Tree) attrOfList(l *list) Attr {
	a := t.listAttr(l.id, fs.ModeDir|0o555, l.at)
	a.Volatile, a.Changing = true, true
	return a
}
