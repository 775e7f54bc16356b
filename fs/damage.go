package fs

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"vitrine/fs/tree"
	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/snapshot"
)

// Damage is what was found damaged or missing in the repository since the mount began.
type Damage struct {
	Time time.Time `json:"time"` // of the first try
	// Path is below the mount point. Bytes that are no UTF-8 are written as \xNN.
	Path string `json:"path"`
	// What is lost of it, in words: "bytes 5 to 10", "the directory", or "the file" where not even its
	// list of blobs can be read.
	What string `json:"what"`
	// From and To delimit the bytes of the file; both are 0 unless What is a range.
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
	Blob string `json:"blob,omitempty"` // 64 hexadecimal digits
	Pack string `json:"pack,omitempty"` // the same; "" when no index knows the blob
	// Error is the reason, in words.
	Error string `json:"error"`
}

// isDamage tells errors that say something about the stored bytes from those of a store that did not answer,
// or not with bytes, which may read well later. A disk that cannot read a sector (EIO) counts as damage.
func isDamage(err error) bool {
	for _, class := range []error{
		repo.ErrCorrupt, snapshot.ErrCorrupt, repo.ErrBlobMissing,
		backend.ErrNotExist, backend.ErrShort, backend.ErrTooBig, unix.EIO,
	} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// Failure is a request that failed although nothing is known to be damaged.
type Failure struct {
	Time  time.Time `json:"time"`
	Path  string    `json:"path"` // as in Damage
	Error string    `json:"error"`
}

// outages counts what failed because the store did not answer. The zero value is ready.
type outages struct {
	mu    sync.Mutex // guards the rest
	count int64
	last  *Failure // never changed
}

func (o *outages) add(path string, err error) {
	last := &Failure{Time: time.Now(), Path: validPath(path), Error: err.Error()}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count++
	o.last = last
}

func (o *outages) status() OutageStatus {
	o.mu.Lock()
	defer o.mu.Unlock()
	return OutageStatus{Count: o.count, Last: o.last}
}

const (
	// maxDamages is how many are listed, the first ones.
	maxDamages = 256
	// maxDamageKeys is how many are told apart, so that a program which tries again is not counted again.
	maxDamageKeys = 1 << 16
)

// damages collects what is damaged or missing. The zero value is ready.
type damages struct {
	mu    sync.Mutex // guards the rest
	known map[damageKey]struct{}
	list  []Damage
}

type damageKey struct {
	node tree.NodeID
	from uint64
}

// add notes that a range of a node cannot be read; describe is called only when it is listed, without
// a lock. The time is filled in, and the path made valid.
func (d *damages) add(node tree.NodeID, from uint64, describe func() Damage) {
	if !d.fresh(damageKey{node, from}) {
		return
	}
	one := describe()
	one.Time, one.Path = time.Now(), validPath(one.Path)
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.list) < maxDamages {
		d.list = append(d.list, one)
	}
}

// fresh tells whether the range is new, and has a place in the list.
func (d *damages) fresh(key damageKey) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.known[key]; ok || len(d.known) >= maxDamageKeys {
		return false
	}
	if d.known == nil {
		d.known = make(map[damageKey]struct{})
	}
	d.known[key] = struct{}{}
	return len(d.known) <= maxDamages
}

// all returns the list, which is not changed later but for appending, and how many there are in all:
// maxDamageKeys stands for that many or more.
func (d *damages) all() (list []Damage, total int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.list == nil {
		return []Damage{}, 0
	}
	return d.list[:len(d.list):len(d.list)], len(d.known)
}
