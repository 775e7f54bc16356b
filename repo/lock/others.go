package lock

import (
	"context"
	"errors"
)

// others is what Acquire saw beside the lock that it made.
type others struct {
	ahead int    // clients at work that came first
	dead  []Info // locks of processes that have ended
}

// Ahead returns how many clients at work had a lock when this one was taken. Of clients that come at the same
// moment and see each other, the one with the earlier lock is ahead. Nobody keeps the count true later.
func (l *Lock) Ahead() int { return l.others.ahead }

// Dead tells whether there was a shared lock that a process of this host and user left when it
// ended: whatever it was doing was cut off. A host is known by its name here, so this may be wrong.
func (l *Lock) Dead() bool { return len(l.others.dead) > 0 }

// RemoveDead removes the locks that Dead speaks of, where the end of their holders is certain: the process is
// known to have run under this very kernel, where it is no more, or the lock is stale by its age as well. Others
// stay for Unlock: if another machine has our name, its holder may be at work.
func (l *Lock) RemoveDead(ctx context.Context) error {
	c := l.client
	var errs []error
	for _, info := range l.others.dead {
		here := info.PIDSpace != "" && info.PIDSpace == c.self.PIDSpace
		if here || c.now().Sub(info.Time) > staleAfter {
			errs = append(errs, c.remove(ctx, info.ID))
		}
	}
	return errors.Join(errs...)
}

// tellApart sorts the locks that were there before the own one was made, and after.
func (c *client) tellApart(before, after []found, own *Info) others {
	type holder struct { // who replaces a lock has two for a moment
		host, user string
		pid        int
	}
	holderOf := func(i *Info) holder { return holder{i.Hostname, i.Username, i.PID} }
	first := make(map[holder]bool)
	for i := range before {
		first[holderOf(&before[i].info)] = true
	}
	var o others
	ahead := make(map[holder]bool)
	for i := range after {
		info := &after[i].info
		switch {
		case after[i].damaged != nil || info.ID == own.ID || info.Exclusive:
		case info.ended(c.self.Hostname, c.started):
			if info.Username == c.self.Username && info.UID == c.self.UID {
				o.dead = append(o.dead, *info)
			}
		case info.stale(c.now(), c.self.Hostname, c.started):
		case first[holderOf(info)] || earlier(info, own):
			ahead[holderOf(info)] = true
		}
	}
	o.ahead = len(ahead)
	return o
}

// earlier orders locks that were made at the same moment, for all clients alike.
func earlier(a, b *Info) bool {
	if !a.Time.Equal(b.Time) {
		return a.Time.Before(b.Time)
	}
	return a.ID.Compare(b.ID) < 0
}
