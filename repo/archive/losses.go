package archive

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
)

// losses tells of what the parent snapshot has and the repository lacks: of the first by name, of the others, of which there
// may be thousands when a pack is lost, by their number. Its methods may be called in parallel.
type losses struct {
	log  *slog.Logger
	many atomic.Int64
}

// namedLosses is how many are named.
const namedLosses = 10

// warn tells of one. Those that are not named are in the log with -v.
func (l *losses) warn(what string, attrs ...any) {
	say := l.log.Warn
	if l.many.Add(1) > namedLosses {
		say = l.log.Info
	}
	say(what, attrs...)
}

// end tells how many were not named.
func (l *losses) end(ctx context.Context) {
	if more := l.many.Load() - namedLosses; more > 0 && !l.log.Enabled(ctx, slog.LevelInfo) {
		l.log.Warn(fmt.Sprintf("of %d more files and directories of the parent snapshot something is missing in the repository; they are read again, and named with -v", more))
	}
}
