package indexdb

import (
	"fmt"
	"log/slog"
	"strings"
)

// badgerLog passes what Badger says on at debug level: whatever matters comes back as an error.
type badgerLog struct{ log *slog.Logger }

func (b badgerLog) say(format string, args []any) {
	b.log.Debug("badger: " + strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (b badgerLog) Errorf(format string, args ...any)   { b.say(format, args) }
func (b badgerLog) Warningf(format string, args ...any) { b.say(format, args) }
func (b badgerLog) Infof(format string, args ...any)    { b.say(format, args) }
func (b badgerLog) Debugf(string, ...any)               {}
