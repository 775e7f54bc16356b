package sftp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"
)

const (
	// connectTime bounds the making of a connection. ssh has its own, shorter limits.
	connectTime = 3 * time.Minute
	// silentTime is how long the server may be silent on a connection on which somebody waits before it
	// is given up. One that syncs a slow disk is silent too. What we send does not count: the kernel takes it
	// from us for long after the line is dead.
	silentTime = 5 * time.Minute
	// graceTime is how long a call whose context has ended may go on by itself before its
	// connection is cut to end it.
	graceTime = time.Second
	// packetBytes is the largest read and write that every server must take.
	packetBytes = 32 << 10
	// inFlight is how many of them one file has under way: together the 2 MiB that
	// OpenSSH lets a session have on the line. More wait in a pipe.
	inFlight = 64
)

// conn is one connection: a process and the protocol on its pipes. It is used by many calls at a time.
type conn struct {
	cfg    *Config
	proc   *process
	client *sftp.Client
	packs  openPacks

	load   atomic.Int64  // what the calls under way weigh; the pool's
	active atomic.Int64  // when bytes last came, in Unix nanoseconds
	heard  *atomic.Int64 // the same of all connections together; the pool's
	silent time.Duration

	cut   sync.Once
	dead  chan struct{} // closed when the connection is of no more use; then cause is set
	cause error

	watched chan struct{}  // closed when watch has ended: the process is gone
	calls   sync.WaitGroup // operations under way, also those whose caller has left; not waited for before watched
}

// dial makes a connection. It ends early when stop is closed.
func dial(cfg *Config, silent time.Duration, heard *atomic.Int64, stop <-chan struct{}) (*conn, error) {
	proc, err := start(cfg)
	if err != nil {
		return nil, err
	}
	c := &conn{cfg: cfg, proc: proc, silent: silent, heard: heard, dead: make(chan struct{}), watched: make(chan struct{})}
	c.packs.spawn = c.calls.Go
	c.touch()
	made := make(chan error, 1)
	go func() {
		var err error
		c.client, err = sftp.NewClientPipe(&reader{bufio.NewReaderSize(proc.out, 2*packetBytes), c.hear}, proc.in,
			sftp.MaxPacketChecked(packetBytes), sftp.MaxConcurrentRequestsPerFile(inFlight))
		made <- err
	}()
	timer := time.NewTimer(connectTime)
	defer timer.Stop()
	select {
	case err = <-made:
	case <-timer.C:
		proc.kill()
		<-made
		err = fmt.Errorf("no answer within %v", connectTime)
	case <-stop:
		proc.kill()
		<-made
		err = errClosed
	}
	if err != nil {
		proc.stop()
		return nil, refused(cfg, proc.stderr.first(), proc.stderr.lines(), err)
	}
	go c.watch()
	return c, nil
}

// watch waits for the end of the connection and cleans up after it.
func (c *conn) watch() {
	err := c.client.Wait()
	c.proc.stop() // so that its last words are there
	if lines := c.proc.stderr.lines(); len(lines) > 0 {
		err = errors.New(lines[len(lines)-1])
	}
	c.sever(err)
	c.packs.close()
	close(c.watched)
}

// sever makes the connection useless. The first cause is kept.
func (c *conn) sever(cause error) {
	c.cut.Do(func() {
		c.cause = cause
		close(c.dead)
	})
	c.proc.kill()
}

func (c *conn) isDead() bool {
	select {
	case <-c.dead:
		return true
	default:
		return false
	}
}

// close ends the connection as the protocol wants it, and waits until nothing of it is left.
func (c *conn) close() {
	c.packs.close()
	c.proc.in.Close() // the server takes this for the end; watch does the rest
	select {
	case <-c.watched:
	case <-time.After(endTime):
		c.sever(errClosed)
		<-c.watched
	}
	c.calls.Wait()
}

func (c *conn) touch() { c.active.Store(time.Now().UnixNano()) }

// hear is called when bytes come.
func (c *conn) hear() {
	c.touch()
	c.heard.Store(c.active.Load())
}

// patience says what happens to an operation whose context ends.
type patience bool

const (
	leave patience = false // its caller does not wait: it owns all that it works on
	await patience = true  // its caller waits for it, for the buffers are the caller's
)

// do runs an operation on the connection. It returns soon after the context ends, with the
// context's error; then an operation that was left still runs, while one that had to be
// awaited has ended, with the connection when nothing less helped.
func (c *conn) do(ctx context.Context, p patience, op func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	c.calls.Go(func() { done <- op() })
	timer := time.NewTimer(c.silent)
	defer timer.Stop()
	for {
		select {
		case err := <-done:
			return c.judge(err)
		case <-ctx.Done():
			if p == await {
				c.awaitEnd(ctx, done)
			}
			return ctx.Err()
		case <-timer.C:
			quiet := time.Since(time.Unix(0, c.active.Load()))
			if quiet >= c.silent {
				c.sever(fmt.Errorf("the server has been silent for %v", quiet.Round(time.Second)))
				return c.judge(<-done)
			}
			timer.Reset(c.silent - quiet)
		}
	}
}

// awaitEnd waits for the end of an operation, and brings it about when it takes too long.
func (c *conn) awaitEnd(ctx context.Context, done <-chan error) {
	timer := time.NewTimer(graceTime)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		c.sever(context.Cause(ctx))
		<-done
	}
}

// judge tells the server's answers, which are returned as they are, from the end of the connection.
func (c *conn) judge(err error) error {
	if !lost(err) {
		return err
	}
	// watch knows more of the reason, and is told by the same event.
	timer := time.NewTimer(endTime + time.Second)
	defer timer.Stop()
	select {
	case <-c.dead:
	case <-timer.C:
		c.sever(err)
	}
	cause := strings.TrimSpace(fmt.Sprint(c.cause))
	return fmt.Errorf("%w: %s: %s", errLost, c.cfg.peer(), cause)
}
