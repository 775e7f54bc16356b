package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	iofs "io/fs"
	"time"
	"unicode/utf8"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/find"
	"vitrine/repo/snapshot"
)

// findText prints matches for people.
type findText struct {
	out    *bufio.Writer
	quiet  bool
	lister lister
	last   *snapshot.Snapshot // whose matches were begun
}

func (p *findText) match(sn *snapshot.Snapshot, m *find.Match) error {
	if m.Kind != find.Name {
		return p.object(sn, m)
	}
	if sn != p.last && !p.quiet {
		if p.last != nil {
			p.out.WriteByte('\n')
		}
		fmt.Fprintf(p.out, "Found matching entries in snapshot %s from %s\n", sn.ID.Short(), sn.Time.Local().Format(timeFormat))
	}
	p.last = sn
	return p.lister.node(m.Path, m.Node)
}

func (p *findText) object(sn *snapshot.Snapshot, m *find.Match) error {
	if m.Kind == find.Blob {
		fmt.Fprintf(p.out, "Found blob %v\n ... in file %s\n     (tree %v)\n", m.ID, m.Path, m.Parent)
	} else {
		fmt.Fprintf(p.out, "Found tree %v\n ... path %s\n", m.ID, m.Path)
	}
	_, err := fmt.Fprintf(p.out, " ... in snapshot %s (%s)\n", sn.ID.Short(), sn.Time.Local().Format(timeFormat))
	return err
}

func (p *findText) end() error { return nil }

// findJSON prints one list: of snapshots with their matches, or of blobs and trees.
type findJSON struct {
	out   *bufio.Writer
	r     *repo.Repository
	packs bool               // name the pack of each blob and tree
	begun bool               // something was printed
	last  *snapshot.Snapshot // whose matches were begun
	hits  int                // in it
}

// findNode is an entry that was found by its name.
type findNode struct {
	Path          string        `json:"path"`
	Permissions   string        `json:"permissions"`
	Type          string        `json:"type"`
	Mode          iofs.FileMode `json:"mode,omitempty"`
	ModTime       time.Time     `json:"mtime"`
	AccessTime    time.Time     `json:"atime"`
	ChangeTime    time.Time     `json:"ctime"`
	UID           uint32        `json:"uid"`
	GID           uint32        `json:"gid"`
	User          string        `json:"user,omitempty"`
	Group         string        `json:"group,omitempty"`
	Inode         uint64        `json:"inode,omitempty"`
	DeviceID      uint64        `json:"device_id,omitempty"`
	Size          uint64        `json:"size,omitempty"`
	Links         uint64        `json:"links,omitempty"`
	LinkTarget    string        `json:"linktarget,omitempty"`
	LinkTargetRaw []byte        `json:"linktarget_raw,omitempty"`
	Error         string        `json:"error,omitempty"`
}

// findObject is a blob or a tree that was found by its ID.
type findObject struct {
	ObjectType string    `json:"object_type"` // blob or tree
	ID         blob.ID   `json:"id"`
	Path       string    `json:"path"`
	ParentTree string    `json:"parent_tree,omitempty"` // of the file with the blob
	Snapshot   blob.ID   `json:"snapshot"`
	Time       time.Time `json:"time"`           // of the snapshot
	Pack       string    `json:"pack,omitempty"` // with --show-pack-id; restic prints lines behind the JSON
}

func (p *findJSON) match(sn *snapshot.Snapshot, m *find.Match) error {
	var v any
	if m.Kind == find.Name {
		v = newFindNode(m)
		if sn != p.last {
			p.close()
			p.separate()
			p.out.WriteString(`{"matches":[`)
			p.last, p.hits = sn, 0
		} else {
			p.out.WriteByte(',')
		}
		p.hits++
	} else {
		object, err := p.object(sn, m)
		if err != nil {
			return err
		}
		v = object
		p.separate()
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = p.out.Write(text)
	return err
}

func newFindNode(m *find.Match) findNode {
	n := m.Node
	v := findNode{
		Path: m.Path, Permissions: n.Mode.String(), Type: n.Type.String(), Mode: n.Mode,
		ModTime: n.ModTime, AccessTime: n.AccessTime, ChangeTime: n.ChangeTime,
		UID: n.UID, GID: n.GID, User: n.User, Group: n.Group, Inode: n.Inode, DeviceID: n.DeviceID,
		Size: n.Size, Links: n.Links, LinkTarget: n.LinkTarget, Error: n.Error,
	}
	if !utf8.ValidString(n.LinkTarget) {
		v.LinkTargetRaw = []byte(n.LinkTarget)
	}
	return v
}

func (p *findJSON) object(sn *snapshot.Snapshot, m *find.Match) (findObject, error) {
	v := findObject{ObjectType: "tree", ID: m.ID, Path: m.Path, Snapshot: sn.ID, Time: sn.Time}
	h := blob.Handle{Type: blob.Tree, ID: m.ID}
	if m.Kind == find.Blob {
		v.ObjectType, v.ParentTree = "blob", m.Parent.String()
		h.Type = blob.Data
	}
	if p.packs {
		loc, ok, err := p.r.LookupBlob(h)
		if err != nil {
			return v, err
		}
		if ok {
			v.Pack = loc.Pack.String()
		}
	}
	return v, nil
}

// separate begins the list, or its next element.
func (p *findJSON) separate() {
	c := byte(',')
	if !p.begun {
		c = '['
	}
	p.begun = true
	p.out.WriteByte(c)
}

// close ends the matches of a snapshot.
func (p *findJSON) close() {
	if p.last != nil {
		fmt.Fprintf(p.out, `],"hits":%d,"snapshot":"%v"}`, p.hits, p.last.ID)
	}
}

func (p *findJSON) end() error {
	p.close()
	if !p.begun {
		p.out.WriteByte('[')
	}
	_, err := p.out.WriteString("]\n")
	return err
}
