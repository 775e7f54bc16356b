package lock

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
)

// others is what was seen of others.
type others struct {
	forwards  bool   // most of the backups say that they go forwards
	said      bool   // the direction that we said then
	alike     bool   // there are some, and all say that, too
	before    int    // how many of them come before us in the order of holders
	backwards bool   // see Lock.Backwards
	dead      []Info // locks of processes that have ended
}

// Backwards tells in which direction a backup under this lock goes, so that of two that store much the same at the same time
// each finds from some point on what the other has stored. Each lock says the direction of its holder: who comes takes the one
// that fewer of the backups there take, forwards when there is none. If all say the same, since they came at one moment
// or since others have ended, each second one turns, by the order of their hosts and processes, which is the same
// for all, and says so in a new lock. Only backups count (Options.Backup), and clients that do not say what they do,
// such as restic, as one that goes forwards and does not turn. Of three some go the same way.
//
// Who comes at the same moment may not have been seen, or not have seen us; see BackwardsNow.
func (l *Lock) Backwards() bool { return l.others.backwards }

// BackwardsNow is Backwards as it is now. It costs a listing of the locks, and a request for each of others, and of its own
// once that was replaced.
func (l *Lock) BackwardsNow(ctx context.Context) (bool, error) {
	locks, err := l.client.read(ctx, l.first)
	if err != nil {
		return false, lockError(err)
	}
	o := l.client.tellApart(locks)
	l.client.turn(&o)
	return o.backwards, nil
}

// turn decides on the direction. A lock that says another one is replaced soon.
func (c *client) turn(o *others) {
	if c.self.Backup && o.alike && o.before%2 == 1 && c.backwards.CompareAndSwap(o.said, !o.said) { // else somebody else has turned
		c.turned.Store(true)
	}
	o.backwards = c.backwards.Load()
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

// Alone reports whether there is no lock of others now, whatever they do.
func (l *Lock) Alone(ctx context.Context) (bool, error) {
	locks, err := l.client.read(ctx, l.first)
	if err != nil {
		return false, lockError(err)
	}
	self := holderOf(&l.client.self)
	return !slices.ContainsFunc(locks, func(f found) bool { return f.info.ID != l.first && (f.damaged != nil || holderOf(&f.info) != self) }), nil
}

// tellApart looks at the locks of others.
func (c *client) tellApart(locks []found) others {
	o := others{said: c.backwards.Load()}
	self := holderOf(&c.self)
	backups := make(map[holder]*Info) // at work, by what they say last
	for i := range locks {
		info := &locks[i].info
		other := holderOf(info)
		if locks[i].damaged != nil || info.Time.IsZero() || info.Exclusive || other == self {
			continue
		}
		elsewhere := info.PIDSpace != "" && info.PIDSpace != c.self.PIDSpace
		ended := info.ended(c.self.Hostname, c.started)
		if ended && info.Username == c.self.Username && info.UID == c.self.UID {
			o.dead = append(o.dead, *info)
		}
		switch {
		case ended && !elsewhere, c.now().Sub(info.Time) > staleAfter:
		case info.PIDSpace == "":
			backups[holder{}] = info // before all others
		case info.Backup: // if ended, perhaps at work in another container, or on a host of our name
			if known := backups[other]; known == nil || known.Time.Before(info.Time) {
				backups[other] = info
			}
		}
	}
	back := 0
	for other, info := range backups {
		if other.compare(self) < 0 {
			o.before++
		}
		if info.Backwards {
			back++
		}
	}
	o.forwards = back*2 < len(backups)
	o.alike = len(backups) > 0 && (back == 0 && !o.said || back == len(backups) && o.said)
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
