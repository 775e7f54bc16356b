package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strconv"

	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// ncdu writes a snapshot in the form that ncdu exports and reads with -f, version 1.2: an array of two numbers, an object
// about the export, and the root directory. A directory is an array of an object about itself and what is in it, a
// file is such an object alone.
type ncdu struct {
	*listing
	out *bufio.Writer
}

// ncduHead tells where the export is from; ncdu does not look at it.
type ncduHead struct {
	Program   string `json:"progname"`
	Version   string `json:"progver"`
	Timestamp int64  `json:"timestamp"` // of the snapshot
	snapshotJSON
}

// write writes the tree at the path dir of the snapshot, with all that is below the listed directories.
func (p *ncdu) write(ctx context.Context, sn *snapshot.Snapshot, root blob.ID, dir string) error {
	head, err := json.Marshal(ncduHead{"vitrine", Version, sn.Time.Unix(), snapshotJSON{sn, sn.ID, sn.ID.Short()}})
	if err != nil {
		return err
	}
	fmt.Fprintf(p.out, "[1,2,%s,\n[{\"name\":%s}", head, ncduString(dir)) // an error stays in out until Flush
	if err := p.tree(ctx, root, "/"); err != nil {
		return err
	}
	_, err = p.out.WriteString("]]\n")
	return err
}

// tree writes what is in a directory.
func (p *ncdu) tree(ctx context.Context, id blob.ID, dir string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	nodes, err := p.r.LoadTree(ctx, id)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	for i := range nodes {
		n := &nodes[i]
		at := path.Join(dir, n.Name)
		delete(p.missing, at)
		enter := n.Subtree != nil && p.leadsOn(at)
		if !enter && !p.wanted(at) {
			continue
		}
		p.out.WriteString(",\n")
		if n.Type != snapshot.Dir {
			p.info(n)
			continue
		}
		p.out.WriteByte('[')
		p.info(n)
		if enter {
			if err := p.tree(ctx, *n.Subtree, at); err != nil {
				return err
			}
		}
		if err := p.out.WriteByte(']'); err != nil {
			return err
		}
	}
	return nil
}

// info writes the object about a file or directory. Nothing is known of the space that a file took on its disk: it is
// given as its size in whole blocks. For ncdu no time is before 1970.
func (p *ncdu) info(n *snapshot.Node) {
	const block = 512
	fmt.Fprintf(p.out, `{"name":%s,"asize":%d,"dsize":%d,"dev":%d,"ino":%d`,
		ncduString(n.Name), n.Size, (n.Size+block-1)/block*block, n.DeviceID, n.Inode)
	if n.Type != snapshot.Dir && n.Links > 1 {
		fmt.Fprintf(p.out, `,"hlnkc":true,"nlink":%d`, n.Links)
	}
	if n.Type != snapshot.Dir && n.Type != snapshot.File {
		p.out.WriteString(`,"notreg":true`)
	}
	fmt.Fprintf(p.out, `,"uid":%d,"gid":%d,"mode":%d,"mtime":%d}`, n.UID, n.GID, snapshot.UnixMode(n.Mode), max(0, n.ModTime.Unix()))
}

// ncduString quotes a name and leaves bytes that are no UTF-8 as they are, as ncdu does.
func ncduString(s string) string {
	b := []byte{'"'}
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, `\u00`...)
			if c < 0x10 {
				b = append(b, '0')
			}
			b = strconv.AppendUint(b, uint64(c), 16)
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}
