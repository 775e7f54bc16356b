package local

import (
	"container/list"
	"errors"
	"sync"
	"time"
)

// A mount reads many small ranges of one pack, and for those open and close cost as much as the
// read: BenchmarkReadAt, on a busy machine with wide scatter, gave medians of 11 µs instead of
// 18 µs for 4 KiB, 5 µs instead of 25 µs for 1 KiB, and no difference for 1 MiB. So a few packs
// are kept open, for a short time: a pack that another process removes is noticed, and its space
// freed, after at most openPackTime. Until then its bytes are still the right ones, since a name
// stands for its content.
const (
	openPackLimit = 64
	openPackTime  = 10 * time.Second
)

// openPacks keeps packs open between reads.
type openPacks struct {
	mu     sync.Mutex // guards all below and the packs; not held while a file is opened, read or closed
	byPath map[string]*openPack
	order  list.List   // of *openPack, the most recently used first
	timer  *time.Timer // runs expire; nil when nothing is open
	drops  int         // calls of drop: what was opened before one must not be kept after it
}

// openPack is one open file. It is closed when it has left the cache and has no reader.
type openPack struct {
	file    ReadFile
	path    string
	opened  time.Time
	readers int
	gone    bool // has left the cache
	place   *list.Element
}

// get returns the open pack, for put to take back.
func (o *openPacks) get(path string, open func(string) (ReadFile, error)) (*openPack, error) {
	o.mu.Lock()
	if p := o.byPath[path]; p != nil {
		p.readers++
		o.order.MoveToFront(p.place)
		o.mu.Unlock()
		return p, nil
	}
	drops := o.drops
	o.mu.Unlock()
	file, err := open(path)
	if err != nil {
		return nil, err
	}
	p := &openPack{file: file, path: path, opened: time.Now(), readers: 1}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byPath[path] != nil || o.drops != drops {
		p.gone = true // used once: put closes it
		return p, nil
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
	return p, nil
}

// put ends a read. The error is that of closing.
func (o *openPacks) put(p *openPack) error {
	o.mu.Lock()
	p.readers--
	idle := p.gone && p.readers == 0
	o.mu.Unlock()
	if idle {
		return p.file.Close()
	}
	return nil
}

// evict takes a pack out of the cache. The caller holds mu; closing a file that was only read
// does not wait for anything.
func (o *openPacks) evict(p *openPack) error {
	delete(o.byPath, p.path)
	o.order.Remove(p.place)
	p.gone = true
	if p.readers > 0 {
		return nil
	}
	return p.file.Close()
}

// drop closes the pack of this path, because it was removed or replaced.
func (o *openPacks) drop(path string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drops++
	if p := o.byPath[path]; p != nil {
		o.evict(p)
	}
}

// expire closes what has been open for openPackTime.
func (o *openPacks) expire() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.timer == nil {
		return // closed
	}
	o.timer = nil
	now, next := time.Now(), openPackTime
	for _, p := range o.byPath {
		if age := now.Sub(p.opened); age >= openPackTime {
			o.evict(p)
		} else {
			next = min(next, openPackTime-age)
		}
	}
	if len(o.byPath) > 0 {
		o.timer = time.AfterFunc(next, o.expire)
	}
}

// close closes all packs.
func (o *openPacks) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.timer != nil {
		o.timer.Stop()
		o.timer = nil
	}
	var errs []error
	for _, p := range o.byPath {
		errs = append(errs, o.evict(p))
	}
	return errors.Join(errs...)
}
