package dump

import (
	"encoding/binary"
	"strconv"
)

// aclRecords are the PAX records that star, GNU tar (--acls), bsdtar and restic know for the attributes of ACLs.
var aclRecords = map[string]string{
	"system.posix_acl_access":  "SCHILY.acl.access",
	"system.posix_acl_default": "SCHILY.acl.default",
}

// The attribute is, little endian:
//
//	4 bytes  version, 2
//	then for each entry
//	2 bytes  tag
//	2 bytes  permissions: 4 read, 2 write, 1 execute
//	4 bytes  id of a user or group, for the tags that have one
const (
	aclVersion    = 2
	aclHeaderSize = 4 // bytes
	aclEntrySize  = 8 // bytes

	aclUser  = 0x02
	aclGroup = 0x08
)

var aclTags = map[uint16]string{0x01: "user", aclUser: "user", 0x04: "group", aclGroup: "group", 0x10: "mask", 0x20: "other"}

// aclText is the attribute in words, one line for each entry, as restic writes it: users and groups by their
// numbers, whose names may belong to others where it is read. Not ok is what is no ACL, or has no entries.
func aclText(attr []byte) (text string, ok bool) {
	if len(attr) < aclHeaderSize+aclEntrySize || (len(attr)-aclHeaderSize)%aclEntrySize != 0 ||
		binary.LittleEndian.Uint32(attr) != aclVersion {
		return "", false
	}
	var b []byte
	for e := attr[aclHeaderSize:]; len(e) > 0; e = e[aclEntrySize:] {
		tag, perm := binary.LittleEndian.Uint16(e), binary.LittleEndian.Uint16(e[2:])
		word, known := aclTags[tag]
		if !known || perm > 7 {
			return "", false
		}
		b = append(append(b, word...), ':')
		if tag == aclUser || tag == aclGroup {
			b = strconv.AppendUint(b, uint64(binary.LittleEndian.Uint32(e[4:])), 10)
		}
		b = append(b, ':')
		for i, letter := range []byte("rwx") {
			if perm&(4>>i) == 0 {
				letter = '-'
			}
			b = append(b, letter)
		}
		b = append(b, '\n')
	}
	return string(b), true
}
