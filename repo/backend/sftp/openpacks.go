package sftp

import (
	"container/list"
	"sync"
	"time"

	"github.com/pkg/sftp"
)

// A mount reads many small ranges of one pack. With open and close around each of them, a range
// costs two more round trips, so each connection keeps a few packs open, for a short time: one
// that somebody else removes is noticed, and its space freed, after at most openPackTime. Until
// then its bytes are still the right ones, since a name stands for its content. The limit is far
// below the 1024 files that a server process may usually have open.
const (
	openPackLimit = 64
	openPackTime  = 10 * time.Second
)

// openPacks keeps packs of one connection open between reads.
type openPacks struct {
	spawn func(func()) // runs what nobody waits for; it ends with the connection

	mu     sync.Mutex // guards all below; not held while anything is asked of the server
	byPath map[string]*openPack
	order  list.List   // of *openPack, the most recently used first
	timer  *time.Timer // runs expire; nil when nothing is open
	closed bool
}

// openPack is one open file. It is closed when it has left the cache and has no reader.
type openPack struct {
	path    string
	opened  chan struct{} // closed when file or err is set
	file    *sftp.File
	err     error
	time    time.Time // when opening began
	readers int
	gone    bool // has left the cache
	place   *list.Element
}

// get returns the open pack, which put takes back also when it has an error. Several who ask
// at the same time share one opening; fresh says that this call did it, just now.
func (o *openPacks) get(path string, open func(string) (*sftp.File, error)) (p *openPack, fresh bool) {
	p, fresh = o.find(path)
	if !fresh {
		<-p.opened
		return p, false
	}
	p.file, p.err = open(path)
	close(p.opened)
	if p.err != nil {
		o.forget(p)
	}
	return p, true
}

// find returns the pack, or puts in a new one that is yet to be opened.
func (o *openPacks) find(path string) (p *openPack, fresh bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p := o.byPath[path]; p != nil {
		p.readers++
		o.order.MoveToFront(p.place)
		return p, false
	}
	p = &openPack{path: path, opened: make(chan struct{}), time: time.Now(), readers: 1}
	if o.closed {
		p.gone = true
		return p, true
	}
	if o.byPath == nil {
		o.byPath = make(map[string]*openPack)
	}
	o.byPath[path] = p
	p.place = o.order.PushFront(p)
	if o.timer == nil {
		o.timer = time.AfterFunc(openPackTime, o.expire)
	}
	if o.order.Len() > openPackLimit {
		o.evict(o.order.Back().Value.(*openPack))
	}
	return p, true
}

// has tells whether the pack is open or about to be.
func (o *openPacks) has(path string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.byPath[path] != nil
}

// put ends a read.
func (o *openPacks) put(p *openPack) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p.readers--
	o.release(p)
}

// release closes a pack that has left the cache and has no reader; mu is held. Nobody waits for the
// server's answer: the content was read, so there is none that matters.
func (o *openPacks) release(p *openPack) {
	if p.gone && p.readers == 0 && p.file != nil && !o.closed {
		o.spawn(func() { p.file.Close() })
	}
}

// evict takes a pack out; mu is held.
func (o *openPacks) evict(p *openPack) {
	if p.gone {
		return
	}
	delete(o.byPath, p.path)
	o.order.Remove(p.place)
	p.gone = true
	o.release(p)
}

// forget takes out a pack that is of no use.
func (o *openPacks) forget(p *openPack) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.evict(p)
}

// drop takes out the pack of this path, because it was removed or replaced.
func (o *openPacks) drop(path string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p := o.byPath[path]; p != nil {
		o.evict(p)
	}
}

// expire closes what has been open for openPackTime.
func (o *openPacks) expire() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.timer = nil
	now, next := time.Now(), openPackTime
	for _, p := range o.byPath {
		if age := now.Sub(p.time); age >= openPackTime {
			o.evict(p)
		} else {
			next = min(next, openPackTime-age)
		}
	}
	if len(o.byPath) > 0 {
		o.timer = time.AfterFunc(next, o.expire)
	}
}

// close ends the keeping. The end of the connection closes the files at the server.
func (o *openPacks) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.timer != nil {
		o.timer.Stop()
	}
}
