package progress

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vitrine/repo/archive"
	"vitrine/repo/snapshot"
)

// shownFiles bounds the names of files in work that are shown at a time.
const shownFiles = 2

// Backup shows a backup; it is an archive.Reporter and a View.
type Backup struct {
	p     *Printer
	begin time.Time

	totalFiles, totalBytes atomic.Uint64 // found by the scan so far, or guessed
	scanned                atomic.Bool   // the totals are final, or as good
	files, bytes, errors   atomic.Uint64 // done
	storing                func() int64  // bytes that are on their way to the store; nil: nobody knows

	mu        sync.Mutex // guards the rest
	active    map[file]time.Time
	lastBytes uint64 // done when rests was called last
	shown     uint64 // the most that Share has returned
}

// file names a file that is being read; the two parts are joined only when it is shown.
type file struct{ dir, name string }

// NewBackup returns the display of a backup that begins now.
func NewBackup(p *Printer) *Backup {
	return &Backup{p: p, begin: time.Now(), active: make(map[file]time.Time)}
}

// Storing names what tells how many bytes are on their way to the store. It is called before there is anything to show.
func (b *Backup) Storing(bytes func() int64) { b.storing = bytes }

// Begin returns when the backup began.
func (b *Backup) Begin() time.Time { return b.begin }

// Scanned implements archive.Reporter.
func (b *Backup) Scanned(t archive.Total, done bool) {
	b.totalFiles.Store(t.Files)
	b.totalBytes.Store(t.Bytes)
	if t.Guessed || done {
		b.scanned.Store(true)
	}
	if !done {
		return
	}
	elapsed := time.Since(b.begin)
	if b.p.o.JSON && b.p.o.Verbose >= 2 {
		b.p.Message(itemMessage{
			MessageType: "verbose_status", Action: "scan_finished", Duration: elapsed.Seconds(),
			DataSize: t.Bytes, TotalFiles: t.Files,
		})
		return
	}
	b.p.Detail(1, "scan finished in %.3fs: %d files, %s", elapsed.Seconds(), t.Files, Bytes(t.Bytes))
}

// Started implements archive.Reporter.
func (b *Backup) Started(dir, name string, _ uint64) {
	b.mu.Lock()
	b.active[file{dir, name}] = time.Now()
	b.mu.Unlock()
}

// Read implements archive.Reporter.
func (b *Backup) Read(n int) { b.bytes.Add(uint64(n)) }

// Done implements archive.Reporter.
func (b *Backup) Done(it archive.Item) {
	var took time.Duration
	if it.Type == snapshot.File {
		b.files.Add(1)
		if it.Change == archive.Unmodified {
			b.bytes.Add(it.SizeBytes)
		} else {
			f := file{it.Dir, it.Name}
			b.mu.Lock()
			if since, ok := b.active[f]; ok {
				took = time.Since(since)
				delete(b.active, f)
			}
			b.mu.Unlock()
		}
	}
	if b.p.o.Verbose >= 2 && (it.Type == snapshot.File || it.Type == snapshot.Dir) {
		b.item(it, took)
	}
}

// actions are the words for a change, in JSON and in the lines of -vv.
var actions = map[archive.Change]string{archive.New: "new", archive.Changed: "modified", archive.Unmodified: "unchanged"}

// item tells of one file or directory that is done.
func (b *Backup) item(it archive.Item, took time.Duration) {
	name := path.Join("/", it.Dir, it.Name) // a stream at the root of the snapshot has no Dir
	if it.Type == snapshot.Dir && name != "/" {
		name += "/"
	}
	action := actions[it.Change]
	switch {
	case b.p.o.JSON:
		b.p.Message(itemMessage{
			MessageType: "verbose_status", Action: action, Item: name, Duration: took.Seconds(),
			DataSize: it.DataBytes, DataSizeInRepo: it.DataStoredBytes,
			MetadataSize: it.TreeBytes, MetadataSizeInRepo: it.TreeStoredBytes,
		})
	case it.Change == archive.Unmodified:
		b.p.Detail(2, "%s %s", action, Printable(name))
	case it.Type == snapshot.Dir:
		b.p.Detail(2, "%-9s %s, saved in %.3fs (%s added, %s stored, %s metadata)",
			action, Printable(name), took.Seconds(), Bytes(it.DataBytes), Bytes(it.DataStoredBytes), Bytes(it.TreeStoredBytes))
	default:
		b.p.Detail(2, "%-9s %s, saved in %.3fs (%s added, %s stored)",
			action, Printable(name), took.Seconds(), Bytes(it.DataBytes), Bytes(it.DataStoredBytes))
	}
}

// Error implements archive.Reporter.
func (b *Backup) Error(item string, err error) {
	b.errors.Add(1)
	b.mu.Lock()
	delete(b.active, file{path.Dir(item), path.Base(item)}) // it may have been read in part
	b.mu.Unlock()
	if b.p.o.JSON {
		b.p.ErrorMessage(ErrorMessage{MessageType: "error", Error: ErrorText{err.Error()}, During: "archival", Item: item})
		return
	}
	b.p.Warn("error: %s", OneLine(err.Error()))
}

// Share implements View: bytes tell best how long it will take. It never goes back.
func (b *Backup) Share() (done, total uint64) {
	done = b.stored()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shown = max(b.shown, done)
	_, total, _ = b.totals()
	return b.shown, total
}

// stored is what has been read and is not on its way to the store: there it counts when it has arrived.
func (b *Backup) stored() uint64 {
	done, going := b.bytes.Load(), b.going()
	return done - min(done, going)
}

// totals returns what there is to do, as far as it is known. A guess that turns out too low (archive guesses from the parent) is
// raised, and is not certain any more.
func (b *Backup) totals() (files, bytes uint64, certain bool) {
	files, bytes = b.totalFiles.Load(), b.totalBytes.Load()
	doneFiles, doneBytes := b.files.Load(), b.bytes.Load()
	certain = b.scanned.Load() && doneFiles <= files && doneBytes <= bytes
	if files > 0 {
		files, bytes = max(files, doneFiles), max(bytes, doneBytes)
	}
	return files, bytes, certain
}

// going returns how many bytes are on their way to the store.
func (b *Backup) going() uint64 {
	if b.storing == nil {
		return 0
	}
	return uint64(max(0, b.storing()))
}

// Rate implements View. It is that of what was stored, or needed no storing. The time left is told only when the scan has
// found everything, or there is a guess that is not too low yet.
func (b *Backup) Rate() string {
	done := b.stored()
	if done == 0 {
		return ""
	}
	_, total, certain := b.totals()
	return rateAndLeft(b.begin, done, total, certain)
}

// Status implements View.
func (b *Backup) Status() string {
	s := fmt.Sprintf("%d files, %s", b.files.Load(), Bytes(b.bytes.Load()))
	if files, bytes, certain := b.totals(); files > 0 {
		s += fmt.Sprintf(" of %d files, %s", files, Bytes(bytes))
		if !certain {
			s += " found so far"
		}
	}
	if n := b.errors.Load(); n > 0 {
		s += fmt.Sprintf(", %d errors", n)
	}
	if b.rests() {
		if n := b.going(); n > 0 { // with a store far away that can be most of the time
			s += fmt.Sprintf("; all is read, %s on the way to the store", Bytes(n))
		}
	}
	return s
}

// rests tells whether no file is being read, nor has been since the last call: most probably all are. The scan, which
// knows, need not have ended.
func (b *Backup) rests() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	before, now := b.lastBytes, b.bytes.Load()
	b.lastBytes = now
	return len(b.active) == 0 && now == before && now > 0
}

// Current implements View: the files that have been in work longest.
func (b *Backup) Current() []string {
	type entry struct {
		file
		since time.Time
	}
	b.mu.Lock()
	entries := make([]entry, 0, len(b.active))
	for f, since := range b.active {
		entries = append(entries, entry{f, since})
	}
	b.mu.Unlock()
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.name, b.name)) })
	var names []string
	for _, e := range entries[:min(len(entries), shownFiles)] {
		names = append(names, path.Join(e.dir, e.name))
	}
	return names
}

// Message implements View.
func (b *Backup) Message() any {
	share, _ := b.Share()
	files, total, certain := b.totals()
	elapsed := time.Since(b.begin)
	m := statusMessage{
		MessageType: "status", SecondsElapsed: uint64(elapsed.Seconds()), PercentDone: Share(share, total),
		TotalFiles: files, FilesDone: b.files.Load(), TotalBytes: total, BytesDone: b.bytes.Load(),
		ErrorCount: b.errors.Load(), CurrentFiles: b.Current(),
	}
	if certain {
		m.SecondsRemaining = uint64(Remaining(b.stored(), total, elapsed).Seconds())
	}
	return m
}

// Finish tells how the backup ended.
func (b *Backup) Finish(res archive.Result, dryRun bool) {
	s := res.Summary
	took := time.Since(b.begin)
	id := ""
	if res.Snapshot != nil && !res.Snapshot.ID.IsZero() {
		id = res.Snapshot.ID.String()
	}
	if b.p.o.JSON {
		b.p.Message(summaryMessage{
			MessageType: "summary",
			FilesNew:    s.FilesNew, FilesChanged: s.FilesChanged, FilesUnmodified: s.FilesUnmodified,
			DirsNew: s.DirsNew, DirsChanged: s.DirsChanged, DirsUnmodified: s.DirsUnmodified,
			DataBlobs: s.DataBlobs, TreeBlobs: s.TreeBlobs, DataAdded: s.DataAdded, DataAddedPacked: s.DataAddedPacked,
			TotalFilesProcessed: s.TotalFilesProcessed, TotalBytesProcessed: s.TotalBytesProcessed,
			TotalDuration: took.Seconds(), BackupStart: s.BackupStart, BackupEnd: s.BackupEnd,
			SnapshotID: id, DryRun: dryRun,
		})
		return
	}
	if res.Parent != nil {
		b.p.Line("using parent snapshot %s", res.Parent.ID.Short())
	} else {
		b.p.Line("no parent snapshot found, all files were read")
	}
	b.p.Line("")
	b.p.Line("Files:       %5d new, %5d changed, %5d unmodified", s.FilesNew, s.FilesChanged, s.FilesUnmodified)
	b.p.Line("Dirs:        %5d new, %5d changed, %5d unmodified", s.DirsNew, s.DirsChanged, s.DirsUnmodified)
	b.p.Detail(1, "Data Blobs:  %5d new", s.DataBlobs)
	b.p.Detail(1, "Tree Blobs:  %5d new", s.TreeBlobs)
	verb := "Added"
	if dryRun {
		verb = "Would add"
	}
	b.p.Line("%s to the repository: %-5s (%-5s stored)", verb, Bytes(s.DataAdded), Bytes(s.DataAddedPacked))
	b.p.Line("")
	b.p.Line("processed %d files, %s in %s", s.TotalFilesProcessed, Bytes(s.TotalBytesProcessed), Clock(took))
	switch {
	case dryRun:
	case res.Skipped:
		b.p.Line("nothing has changed: no snapshot is saved")
	case id != "":
		b.p.Line("snapshot %s saved", res.Snapshot.ID.Short())
	}
}
