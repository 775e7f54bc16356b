package sftp

import (
	"time"

	"vitrine/repo/backend"
)

// SetSilent sets how long new connections may be silent; before the first call.
func SetSilent(be backend.Backend, d time.Duration) { be.(*Backend).pool.silent = d }

// Silent returns how long connections may be silent.
func Silent(be backend.Backend) time.Duration { return be.(*Backend).pool.silent }

// DropConnections forgets all connections there are, in good order.
func DropConnections(be backend.Backend) {
	p := be.(*Backend).pool
	p.mu.Lock()
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	for _, c := range conns {
		c.close()
	}
}

// Pids returns the processes of the connections.
func Pids(be backend.Backend) []int {
	p := be.(*Backend).pool
	p.mu.Lock()
	defer p.mu.Unlock()
	var pids []int
	for _, c := range p.conns {
		if !c.isDead() {
			pids = append(pids, c.proc.group.Pid())
		}
	}
	return pids
}

// Leftovers returns how many temporary files are still to be removed.
func Leftovers(be backend.Backend) int {
	l := &be.(*Backend).left
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.files)
}
