package snapshot

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The JSON of a node: these fields in this order, those with ? left out when zero.
//
//	name                 strconv.Quote of the raw bytes, without its outer quotes
//	type                 the word of NodeType
//	mode ?               fs.FileMode in decimal
//	mtime, atime, ctime  RFC 3339 with nanoseconds, years 0000 to 9999
//	uid, gid
//	user ?, group ?, inode ?, device_id ?, size ?, links ?
//	linktarget ?         every byte that is not UTF-8 replaced by U+FFFD
//	linktarget_raw ?     base64, only when the target is not UTF-8
//	extended_attributes ?  list of name and value (base64)
//	generic_attributes ?   object, keys sorted
//	device ?             st_rdev
//	content              list of ids, or null
//	subtree ?            id
//	error ?
//
// The bytes must be what encoding/json makes of such a struct, with its HTML escaping,
// or equal directories stop sharing their tree blob with those of other clients.

// AppendJSON appends the canonical JSON of n to dst. Generic attributes that are not JSON
// are left out; TreeEncoder.Add refuses such a node.
func (n *Node) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"name":`...)
	dst = appendQuotedName(dst, n.Name)
	dst = append(dst, `,"type":"`...)
	dst = append(dst, n.Type.String()...)
	dst = append(dst, '"')
	dst = appendUintField(dst, `,"mode":`, uint64(n.Mode))
	dst = append(dst, `,"mtime":"`...)
	start := len(dst)
	dst = appendTime(dst, n.ModTime)
	end := len(dst)
	dst = append(dst, `","atime":"`...)
	if n.AccessTime == n.ModTime { // so it is unless the user asks for real access times
		dst = append(dst, dst[start:end]...)
	} else {
		dst = appendTime(dst, n.AccessTime)
	}
	dst = append(dst, `","ctime":"`...)
	dst = appendTime(dst, n.ChangeTime)
	dst = append(dst, `","uid":`...)
	dst = strconv.AppendUint(dst, uint64(n.UID), 10)
	dst = append(dst, `,"gid":`...)
	dst = strconv.AppendUint(dst, uint64(n.GID), 10)
	dst = appendStringField(dst, `,"user":`, n.User)
	dst = appendStringField(dst, `,"group":`, n.Group)
	dst = appendUintField(dst, `,"inode":`, n.Inode)
	dst = appendUintField(dst, `,"device_id":`, n.DeviceID)
	dst = appendUintField(dst, `,"size":`, n.Size)
	dst = appendUintField(dst, `,"links":`, n.Links)
	if n.LinkTarget != "" {
		dst = appendStringField(dst, `,"linktarget":`, n.LinkTarget)
		if !utf8.ValidString(n.LinkTarget) {
			dst = append(dst, `,"linktarget_raw":"`...)
			dst = base64.StdEncoding.AppendEncode(dst, []byte(n.LinkTarget))
			dst = append(dst, '"')
		}
	}
	dst = appendXattrs(dst, n.Xattrs)
	dst = appendGenericAttributes(dst, n.GenericAttributes)
	dst = appendUintField(dst, `,"device":`, n.Device)
	dst = n.appendContent(dst)
	if n.Subtree != nil {
		dst = append(dst, `,"subtree":"`...)
		dst = hex.AppendEncode(dst, n.Subtree[:])
		dst = append(dst, '"')
	}
	dst = appendStringField(dst, `,"error":`, n.Error)
	return append(dst, '}')
}

func (n *Node) appendContent(dst []byte) []byte {
	if n.Content == nil {
		return append(dst, `,"content":null`...)
	}
	dst = append(dst, `,"content":[`...)
	for i := range n.Content {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst = hex.AppendEncode(dst, n.Content[i][:])
		dst = append(dst, '"')
	}
	return append(dst, ']')
}

func appendXattrs(dst []byte, list []Xattr) []byte {
	if len(list) == 0 {
		return dst
	}
	dst = append(dst, `,"extended_attributes":[`...)
	for i := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"name":`...)
		dst = appendString(dst, list[i].Name)
		dst = append(dst, `,"value":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, list[i].Value)
		dst = append(dst, `"}`...)
	}
	return append(dst, ']')
}

// appendGenericAttributes goes through encoding/json: only other systems have them.
func appendGenericAttributes(dst []byte, attrs map[string]json.RawMessage) []byte {
	if len(attrs) == 0 {
		return dst
	}
	valid := make(map[string]json.RawMessage, len(attrs))
	for name, value := range attrs {
		if value == nil || json.Valid(value) {
			valid[name] = value
		}
	}
	text, err := json.Marshal(valid)
	if err != nil || len(valid) == 0 {
		return dst
	}
	dst = append(dst, `,"generic_attributes":`...)
	return append(dst, text...)
}

// appendTime writes RFC 3339 with as many digits of the second as needed. Its years have
// four digits and its zones less than a day: times beyond move into the nearest year of
// that range, as other writers of the format do it, and zones become UTC.
func appendTime(dst []byte, t time.Time) []byte {
	const day = 24 * 60 * 60
	if _, offset := t.Zone(); offset <= -day || offset >= day {
		t = t.UTC()
	}
	if year := t.Year(); year < 0 {
		t = t.AddDate(-year, 0, 0)
	} else if year > 9999 {
		t = t.AddDate(9999-year, 0, 0)
	}
	return t.AppendFormat(dst, time.RFC3339Nano)
}

func appendUintField(dst []byte, key string, value uint64) []byte {
	if value == 0 {
		return dst
	}
	return strconv.AppendUint(append(dst, key...), value, 10)
}

func appendStringField(dst []byte, key, value string) []byte {
	if value == "" {
		return dst
	}
	return appendString(append(dst, key...), value)
}

// appendQuotedName writes the JSON string of strconv.Quote(name) without its outer quotes,
// so that names that are not UTF-8 survive.
func appendQuotedName(dst []byte, name string) []byte {
	if plainLen(name) == len(name) && strings.IndexByte(name, 0x7f) < 0 { // DEL is plain in JSON only
		dst = append(dst, '"')
		dst = append(dst, name...)
		return append(dst, '"')
	}
	quoted := strconv.Quote(name)
	return appendString(dst, quoted[1:len(quoted)-1])
}

// plain are the bytes that stand for themselves in a JSON string with HTML escaping.
var plain = func() (table [256]bool) {
	for c := range table {
		table[c] = c >= ' ' && c < utf8.RuneSelf && !strings.ContainsRune(`"\<>&`, rune(c))
	}
	return table
}()

// plainLen returns how many of the first bytes of s are plain.
func plainLen(s string) int {
	for i := range len(s) {
		if !plain[s[i]] {
			return i
		}
	}
	return len(s)
}

// appendString writes s as encoding/json does.
func appendString(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for {
		n := plainLen(s)
		dst = append(dst, s[:n]...)
		if n == len(s) {
			return append(dst, '"')
		}
		s = s[n:]
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\b':
			dst = append(dst, `\b`...)
		case r == '\f':
			dst = append(dst, `\f`...)
		case r == '\n':
			dst = append(dst, `\n`...)
		case r == '\r':
			dst = append(dst, `\r`...)
		case r == '\t':
			dst = append(dst, `\t`...)
		case r < utf8.RuneSelf:
			dst = append(dst, `\u00`...)
			dst = append(dst, digits[r>>4], digits[r&15])
		case r == utf8.RuneError && size == 1:
			dst = append(dst, `\ufffd`...)
		case r == '\u2028' || r == '\u2029':
			dst = append(dst, `\u202`...)
			dst = append(dst, digits[r&15])
		default:
			dst = append(dst, s[:size]...)
		}
		s = s[size:]
	}
}
