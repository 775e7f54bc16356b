// Package indextest holds what every implementation of repo.Index has to do, as tests, and a
// Source of index files to do it with.
package indextest

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// Source is a repository of index files in memory. It counts what is asked of it and may be
// told to fail. All methods may be called in parallel.
type Source struct {
	mu      sync.Mutex // guards all below
	files   map[blob.ID][]blob.Entry
	lists   int
	loads   map[blob.ID]int
	listErr error
	loadErr error
	onLoad  func(blob.ID)
}

// NewSource returns a source with the index files given.
func NewSource(files ...[]blob.Entry) *Source {
	s := &Source{files: make(map[blob.ID][]blob.Entry), loads: make(map[blob.ID]int)}
	for _, f := range files {
		s.Add(f)
	}
	return s
}

// Add adds an index file and returns its name, which depends on its content.
func (s *Source) Add(entries []blob.Entry) blob.ID {
	var content []byte
	for _, e := range entries {
		content = append(append(content, byte(e.Type)), e.ID[:]...)
		content = fmt.Appendf(append(content, e.Pack[:]...), "%d %d %d\n", e.OffsetBytes, e.LengthBytes, e.PlainBytes)
	}
	id := blob.Hash(content)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[id] = entries
	return id
}

// Remove removes index files.
func (s *Source) Remove(ids ...blob.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		delete(s.files, id)
	}
}

// Fail makes IndexFiles and LoadIndexFile return errors where they are not nil.
func (s *Source) Fail(list, load error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listErr, s.loadErr = list, load
}

// OnLoad has fn called at the beginning of each LoadIndexFile; fn may call the other methods.
func (s *Source) OnLoad(fn func(blob.ID)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onLoad = fn
}

// Loads returns how often index files were read, all together.
func (s *Source) Loads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, loads := range s.loads {
		n += loads
	}
	return n
}

// Lists returns how often the index files were listed.
func (s *Source) Lists() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lists
}

// IndexFiles implements indexdb.Source.
func (s *Source) IndexFiles(ctx context.Context) ([]backend.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists++
	if s.listErr != nil {
		return nil, s.listErr
	}
	var infos []backend.Info
	for id, entries := range s.files {
		infos = append(infos, backend.Info{Name: id.String(), SizeBytes: int64(len(entries))})
	}
	return infos, ctx.Err()
}

// LoadIndexFile implements indexdb.Source.
func (s *Source) LoadIndexFile(ctx context.Context, id blob.ID, fn func(blob.Entry) error) error {
	s.mu.Lock()
	onLoad := s.onLoad
	s.loads[id]++
	s.mu.Unlock()
	if onLoad != nil {
		onLoad(id)
	}
	s.mu.Lock()
	entries, ok := s.files[id]
	err := s.loadErr
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("read index/%s: %w", id.Short(), backend.ErrNotExist)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// All returns the places of every blob in the source now.
func (s *Source) All() map[blob.Handle][]blob.Location {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[blob.Handle][]blob.Location)
	for _, entries := range s.files {
		for _, e := range entries {
			all[e.Handle] = append(all[e.Handle], e.Location)
		}
	}
	return all
}

// Names returns the names of the index files, sorted.
func (s *Source) Names() []blob.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Keys(s.files), blob.ID.Compare)
}

// Entries fabricates the entries of an index file: n blobs of both types in packs of 20, the
// same for the same seed, different for different ones.
func Entries(seed uint64, n int) []blob.Entry {
	entries := make([]blob.Entry, n)
	for i := range entries {
		pack := fabricate("pack", seed, i/20)
		e := blob.Entry{
			Handle: blob.Handle{Type: blob.Type(i / 20 % 2), ID: fabricate("blob", seed, i)},
			Location: blob.Location{
				Pack:        pack,
				OffsetBytes: uint32(i%20) * 1000,
				LengthBytes: 900 + uint32(i%100),
			},
		}
		if i%3 != 0 {
			e.PlainBytes = 2 * e.LengthBytes
		}
		entries[i] = e
	}
	return entries
}

func fabricate(what string, seed uint64, i int) blob.ID {
	p := binary.LittleEndian.AppendUint64([]byte(what), seed)
	return blob.Hash(binary.LittleEndian.AppendUint64(p, uint64(i)))
}
