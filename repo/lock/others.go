package lock

import (
	"cmp"
	"context"
	"errors"
	"strings"
)

// others is what was seen of others.
type others struct {
	rank int    // see Lock.Rank
	dead []Info // locks of processes that have ended
}

// Rank returns how many of the clients that were at work when this lock was taken come before its holder, in an order that is
// the same for all: that of their hosts, users and processes. Only backups count (Options.Backup), and all the clients that do
// not say what they do, such as restic, as one that comes first.
//
// Who comes at the same moment may not have been seen, or not have seen us; see RankNow.
func (l *Lock) Rank() int { return l.others.rank }

// RankNow is Rank as it is now. It costs a listing of the locks, and a request for each of others, and of its own once that
// was replaced.
func (l *Lock) RankNow(ctx context.Context) (int, error) {
	locks, err := l.client.read(ctx, l.first)
	if err != nil {
		return 0, lockError(err)
	}
	return l.client.tellApart(locks).rank, nil
}

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

// tellApart looks at the locks of others.
func (c *client) tellApart(locks []found) others {
	var o others
	first := make(map[holder]bool)
	self := holderOf(&c.self)
	for i := range locks {
		info := &locks[i].info
		switch other := holderOf(info); {
		case locks[i].damaged != nil || info.Time.IsZero() || info.Exclusive:
		case info.ended(c.self.Hostname, c.started):
			if info.Username == c.self.Username && info.UID == c.self.UID {
				o.dead = append(o.dead, *info)
			}
		case other == self || info.stale(c.now(), c.self.Hostname, c.started):
		case info.Backup:
			if other.compare(self) < 0 {
				first[other] = true
			}
		case info.PIDSpace == "":
			first[holder{}] = true
		}
	}
	o.rank = len(first)
	return o
}

// holder is who holds locks: two while it replaces one by another.
type holder struct {
	host, user, space string
	pid               int
}

func holderOf(i *Info) holder {
	return holder{host: i.Hostname, user: i.Username, space: i.PIDSpace, pid: i.PID}
}

// compare orders holders for all clients alike.
func (h holder) compare(o holder) int {
	return cmp.Or(strings.Compare(h.host, o.host), strings.Compare(h.space, o.space), cmp.Compare(h.pid, o.pid),
		strings.Compare(h.user, o.user))
}
