package archive

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"vitrine/repo/snapshot"
	"vitrine/repo/source"
)

// scanStep is after how many entries a scan tells what it has found so far.
const scanStep = 4096

// scan starts to find out how much there is to do, for the progress display; stop ends it and waits.
// What the parent snapshot held is a good guess and costs nothing; without that the source is
// walked and every file looked at once more, which is little beside reading it.
func (a *run) scan(ctx context.Context, o *Options, w *walker, plan *source.Branch, parent *snapshot.Snapshot) (stop func()) {
	if o.NoScan {
		return func() {}
	}
	a.scanning = true
	if parent != nil && parent.Summary != nil && parent.Summary.TotalFilesProcessed > 0 {
		guess := totalOf(parent.Summary)
		guess.Guessed = true
		a.rep.Scanned(guess, false)
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var scanning sync.WaitGroup
	scanning.Go(func() {
		select {
		case <-time.After(o.ScanAfter):
		case <-ctx.Done():
			return
		}
		quiet := *w
		quiet.log = slog.New(slog.DiscardHandler) // the backup tells it
		s := &scanner{filter: o.Filter, rep: a.rep}
		if quiet.root(ctx, plan, s) == nil {
			a.scanning = false
			a.rep.Scanned(s.total, true)
		}
	})
	return func() {
		cancel()
		scanning.Wait()
	}
}

// totalOf is what a backup had to do.
func totalOf(s *snapshot.Summary) Total {
	return Total{
		Files: s.TotalFilesProcessed,
		Dirs:  s.DirsNew + s.DirsChanged + s.DirsUnmodified,
		Bytes: s.TotalBytesProcessed,
	}
}

// scanner is a visitor that counts.
type scanner struct {
	filter *source.Filter
	rep    Reporter
	total  Total
	step   int
}

func (s *scanner) enter(string, *place, *source.Stat) { s.total.Dirs++ }
func (s *scanner) leave(context.Context)              {}
func (s *scanner) failed(string, error)               {} // the backup tells it

func (s *scanner) files(ctx context.Context, g group) error {
	var st source.Stat
	for _, e := range g.entries {
		if !wanted(s.filter, &g, e.Name) || g.at.Stat(e.Name, &st) != nil || !wantedStat(s.filter, &g, &st) {
			continue
		}
		if source.NodeType(&st) == snapshot.File {
			s.total.Files++
			s.total.Bytes += uint64(st.Size)
		} else {
			s.total.Others++
		}
	}
	if s.step += len(g.entries); s.step >= scanStep {
		s.step = 0
		s.rep.Scanned(s.total, false)
	}
	return ctx.Err()
}
