package tree

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"sync"

	"vitrine/repo/blob"
)

// dirShards spreads the directory table over locks; also it keeps the pause small in which one
// map grows.
const dirShards = 32

// dirRecord says what a directory instance is. For the root directory of a snapshot
// parentTree is noTree and entry its place in Tree.roots.
type dirRecord struct {
	parent     NodeID // instance that holds it
	tree       uint32 // number of its own tree blob, noTree when the node has none
	parentTree uint32 // number of the tree blob that describes it
	entry      uint32 // place in parentTree
	refs       uint32 // given out by Lookup and List; stays put at the maximum
}

func (r dirRecord) same(o dirRecord) bool {
	return r.parent == o.parent && r.parentTree == o.parentTree && r.entry == o.entry && r.tree == o.tree
}

// dirTable holds the directory instances that somebody has a reference to.
type dirTable struct {
	shards [dirShards]dirShard
}

type dirShard struct {
	mu   sync.RWMutex // guards the rest; held for a map access only
	m    map[NodeID]dirRecord
	peak int // greatest len(m) since m was made
}

func (d *dirTable) init() {
	for i := range d.shards {
		d.shards[i].m = make(map[NodeID]dirRecord)
	}
}

func (d *dirTable) shard(id NodeID) *dirShard { return &d.shards[id%dirShards] }

// hold adds a reference to the instance of that name, and returns its ID.
func (d *dirTable) hold(name string, r dirRecord) NodeID {
	for id := instanceID(r.parent, name); ; id = nextInstance(id) {
		if d.holdAt(id, r) {
			return id
		}
	}
}

// holdAt is hold for one ID; false when it belongs to another instance with the same hash.
func (d *dirTable) holdAt(id NodeID, r dirRecord) bool {
	s := d.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.m[id]
	if ok && !old.same(r) {
		return false
	}
	if r.refs = old.refs; r.refs < math.MaxUint32 {
		r.refs++
	}
	s.m[id] = r
	s.peak = max(s.peak, len(s.m))
	return true
}

// get returns what an instance stands for; false when nobody holds it.
func (d *dirTable) get(id NodeID) (dirRecord, bool) {
	s := d.shard(id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.m[id]
	return r, ok
}

// drop gives back n references.
func (d *dirTable) drop(id NodeID, n uint64) {
	s := d.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.m[id]
	switch {
	case !ok || r.refs == math.MaxUint32:
	case uint64(r.refs) > n:
		r.refs -= uint32(n)
		s.m[id] = r
	default:
		delete(s.m, id)
		s.shrink()
	}
}

// shrink gives memory back: Go's maps never do so themselves.
func (s *dirShard) shrink() {
	if s.peak < 1024 || len(s.m) > s.peak/8 {
		return
	}
	m := make(map[NodeID]dirRecord, len(s.m))
	for id, r := range s.m {
		m[id] = r
	}
	s.m, s.peak = m, len(m)
}

// find returns some instance whose tree blob has the number. It looks at all of them: for
// error messages only.
func (d *dirTable) find(number uint32) (NodeID, bool) {
	for i := range d.shards {
		if id, ok := d.shards[i].find(number); ok {
			return id, true
		}
	}
	return 0, false
}

func (s *dirShard) find(number uint32) (NodeID, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for id, r := range s.m {
		if r.tree == number {
			return id, true
		}
	}
	return 0, false
}

// len returns the number of instances held.
func (d *dirTable) len() int {
	n := 0
	for i := range d.shards {
		s := &d.shards[i]
		s.mu.RLock()
		n += len(s.m)
		s.mu.RUnlock()
	}
	return n
}

// instanceID is the NodeID of a directory, or of a node in the lists. It is made with a
// cryptographic hash because names come from whoever made the backup.
func instanceID(parent NodeID, name string) NodeID {
	var buf [8 + 256]byte
	b := binary.LittleEndian.AppendUint64(buf[:0], uint64(parent))
	sum := sha256.Sum256(append(b, name...))
	id := NodeID(binary.BigEndian.Uint64(sum[:8])) | instanceBit
	if id == reserved {
		id--
	}
	return id
}

// nextInstance follows id where it is taken.
func nextInstance(id NodeID) NodeID {
	if id+1 == reserved || id+1 == 0 {
		return instanceBit
	}
	return id + 1
}

// treeTable numbers tree blobs. Numbers are never used again.
type treeTable struct {
	mu      sync.RWMutex // guards the rest; held for a map access only
	numbers map[uint64]uint32
	blocks  []*[treeBlock]blob.ID // number n stands at n-1
	count   uint32
}

// treeBlock is how many IDs are allocated at a time, so that growing never copies.
const treeBlock = 1024

func (t *treeTable) init() { t.numbers = make(map[uint64]uint32) }

// number returns the number of a tree blob, giving it one when it has none; noTree for
// the zero ID.
func (t *treeTable) number(id blob.ID) uint32 {
	if id.IsZero() {
		return noTree
	}
	t.mu.RLock()
	n, _, ok := t.search(id)
	t.mu.RUnlock()
	if ok {
		return n
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n, free, ok := t.search(id)
	if ok {
		return n
	}
	if t.count%treeBlock == 0 {
		t.blocks = append(t.blocks, new([treeBlock]blob.ID))
	}
	t.blocks[t.count/treeBlock][t.count%treeBlock] = id
	t.count++
	t.numbers[free] = t.count
	return t.count
}

// search finds the number of id. The map holds only 8 bytes of each ID, so a key may be
// taken by another one; then the next key is tried. free is the first key not taken.
func (t *treeTable) search(id blob.ID) (number uint32, free uint64, ok bool) {
	for key := binary.LittleEndian.Uint64(id[:8]); ; key++ {
		n, taken := t.numbers[key]
		if !taken {
			return noTree, key, false
		}
		if t.blocks[(n-1)/treeBlock][(n-1)%treeBlock] == id {
			return n, key, true
		}
	}
}

// id returns the tree blob with that number.
func (t *treeTable) id(n uint32) (blob.ID, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if n == noTree || n > t.count {
		return blob.ID{}, false
	}
	return t.blocks[(n-1)/treeBlock][(n-1)%treeBlock], true
}
