package dump

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"vitrine/repo/snapshot"
)

// schily begins the names of PAX records for extended attributes, as star, GNU tar and bsdtar know them.
const schily = "SCHILY.xattr."

// inKeyword writes an attribute's name as GNU tar does: a PAX keyword ends at the first "=".
var inKeyword = strings.NewReplacer("%", "%25", "=", "%3D")

// tarSink writes a tar archive.
type tarSink struct {
	*tar.Writer
	links map[[2]uint64]string // names of files that have several, by device and inode
	skip  bool                 // the content of a further name
}

func newTar(w io.Writer) *tarSink {
	return &tarSink{Writer: tar.NewWriter(w), links: map[[2]uint64]string{}}
}

func (t *tarSink) begin(name string, n *snapshot.Node) error {
	h := &tar.Header{
		Format: tar.FormatPAX, Name: strings.TrimPrefix(name, "/"),
		Mode: int64(snapshot.UnixMode(n.Mode) & 0o7777),
		Uid:  int(n.UID), Gid: int(n.GID), Uname: n.User, Gname: n.Group,
		ModTime: n.ModTime, AccessTime: n.AccessTime, ChangeTime: n.ChangeTime,
	}
	switch n.Type {
	case snapshot.File:
		h.Typeflag, h.Size = tar.TypeReg, int64(n.Size)
	case snapshot.Dir:
		h.Typeflag = tar.TypeDir
		h.Name += "/"
	case snapshot.Symlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, n.LinkTarget
	case snapshot.Dev, snapshot.CharDev:
		h.Typeflag = tar.TypeBlock
		if n.Type == snapshot.CharDev {
			h.Typeflag = tar.TypeChar
		}
		h.Devmajor, h.Devminor = int64(unix.Major(n.Device)), int64(unix.Minor(n.Device))
	case snapshot.Fifo:
		h.Typeflag = tar.TypeFifo
	default:
		return nil
	}
	t.skip = false
	if n.Links > 1 && n.Type != snapshot.Dir {
		key := [2]uint64{n.DeviceID, n.Inode}
		if first, ok := t.links[key]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			t.skip = true
		} else {
			t.links[key] = h.Name
		}
	}
	for _, x := range n.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		key, value := schily+inKeyword.Replace(x.Name), string(x.Value)
		if acl, ok := aclRecords[x.Name]; ok {
			if text, ok := aclText(x.Value); ok {
				key, value = acl, text
			}
		}
		h.PAXRecords[key] = value
	}
	return t.WriteHeader(h)
}

func (t *tarSink) content(p []byte) error {
	if t.skip {
		return nil
	}
	_, err := t.Write(p)
	if err == tar.ErrWriteTooLong {
		err = errTooLong
	}
	return err
}

// zipSink writes a zip archive.
type zipSink struct {
	*zip.Writer
	file io.Writer // that is being written
}

func newZip(w io.Writer) *zipSink { return &zipSink{Writer: zip.NewWriter(w)} }

func (z *zipSink) begin(name string, n *snapshot.Node) error {
	h := &zip.FileHeader{Name: strings.TrimPrefix(name, "/"), Modified: n.ModTime, Method: zip.Deflate}
	h.SetMode(n.Mode)
	switch n.Type {
	case snapshot.Dir:
		h.Name += "/"
		h.Method = zip.Store
	case snapshot.Socket, snapshot.Irregular:
		return nil
	}
	var err error
	if z.file, err = z.CreateHeader(h); err == nil && n.Type == snapshot.Symlink {
		_, err = io.Copy(z.file, bytes.NewReader([]byte(n.LinkTarget)))
	}
	return err
}

func (z *zipSink) content(p []byte) error {
	_, err := z.file.Write(p)
	return err
}
