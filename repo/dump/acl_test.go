package dump_test

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/dump"
	"vitrine/repo/snapshot"
)

// one is a store of one tree and no content.
type one struct {
	dump.Store
	nodes []snapshot.Node
}

func (o one) LoadTree(context.Context, blob.ID) ([]snapshot.Node, error) { return o.nodes, nil }

func (o one) Parts(_ []blob.ID, sizeBytes, _ int64) ([]repo.Part, error) {
	return []repo.Part{{SizeBytes: sizeBytes}}, nil
}

// records dumps an entry as tar and returns what begins with SCHILY of the PAX records.
func records(t *testing.T, xattrs []snapshot.Xattr) map[string]map[string]string {
	t.Helper()
	s := one{nodes: []snapshot.Node{{Name: "f", Type: snapshot.Fifo, Xattrs: xattrs}}}
	var out bytes.Buffer
	check(t, dump.Archive(t.Context(), s, dump.Tar, blob.ID{}, "/", &out))
	got := map[string]map[string]string{}
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if err == io.EOF {
			return got
		}
		check(t, err)
		maps.DeleteFunc(h.PAXRecords, func(k, _ string) bool { return !strings.HasPrefix(k, "SCHILY") })
		if len(h.PAXRecords) > 0 {
			got[h.Name] = h.PAXRecords
		}
	}
}

// The ACLs of a directory have the records that restic 0.14 writes, byte for byte.
func TestACL(t *testing.T) {
	xattrs := []snapshot.Xattr{
		{Name: "system.posix_acl_access", Value: []byte("\x02\x00\x00\x00" +
			"\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\x01\x00\x00\x00" +
			"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x08\x00\x07\x00\xfe\xff\xff\xff" +
			"\x10\x00\x05\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff")},
		{Name: "system.posix_acl_default", Value: []byte("\x02\x00\x00\x00" +
			"\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x02\x00\xe8\x03\x00\x00" +
			"\x04\x00\x05\x00\xff\xff\xff\xff" + "\x10\x00\x05\x00\xff\xff\xff\xff" + "\x20\x00\x01\x00\xff\xff\xff\xff")},
		{Name: "user.d", Value: []byte("on a directory")},
	}
	want := map[string]map[string]string{"f": {
		"SCHILY.acl.access":   "user::rw-\nuser:1:r--\ngroup::r--\ngroup:4294967294:rwx\nmask::r-x\nother::---\n",
		"SCHILY.acl.default":  "user::rwx\nuser:1000:-w-\ngroup::r-x\nmask::r-x\nother::--x\n",
		"SCHILY.xattr.user.d": "on a directory",
	}}
	if d := cmp.Diff(want, records(t, xattrs)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// What is no ACL stays the attribute that it is.
func TestMalformedACL(t *testing.T) {
	const name = "system.posix_acl_access"
	for what, value := range map[string]string{
		"nothing":             "",
		"half a version":      "\x02\x00",
		"no entries":          "\x02\x00\x00\x00",
		"another version":     "\x01\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff",
		"a part of an entry":  "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff",
		"an unknown tag":      "\x02\x00\x00\x00\x03\x00\x06\x00\xff\xff\xff\xff",
		"unknown permissions": "\x02\x00\x00\x00\x01\x00\x0e\x00\xff\xff\xff\xff",
	} {
		t.Run(what, func(t *testing.T) {
			want := map[string]map[string]string{"f": {"SCHILY.xattr." + name: value}}
			if d := cmp.Diff(want, records(t, []snapshot.Xattr{{Name: name, Value: []byte(value)}})); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// GNU tar writes and reads the names of attributes so: a record's keyword cannot hold "=".
func TestXattrNames(t *testing.T) {
	want := map[string]map[string]string{"f": {"SCHILY.xattr.user.a%3Db%25": "v=w%"}}
	if d := cmp.Diff(want, records(t, []snapshot.Xattr{{Name: "user.a=b%", Value: []byte("v=w%")}})); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
