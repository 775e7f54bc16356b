// Package fault wraps a backend and makes its calls fail where a test wants it. The test gives a
// plan: a function that is told each call, by number, and says what goes wrong with it. The
// usual test fails call 0, then 1, then 2 … until a run has no fault left:
//
//	for i := 0; ; i++ {
//		be := fault.New(mem.New(), fault.Nth(i, fault.Before))
//		… run, look at what is left …
//		if be.Calls() <= i {
//			break
//		}
//	}
package fault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"vitrine/repo/backend"
)

// ErrInjected is the error of a fault that names no other.
var ErrInjected = errors.New("injected fault")

// Op is the method of backend.Backend that is called.
type Op uint8

// The methods that can fail.
const (
	Save Op = iota
	ReadAt
	ReadAll
	Stat
	List
	Remove
)

// String returns the name of the method.
func (o Op) String() string {
	return [...]string{"Save", "ReadAt", "ReadAll", "Stat", "List", "Remove"}[o]
}

// Call is one call of the wrapped backend.
type Call struct {
	N    int // counted from 0 over all methods
	Op   Op
	File backend.File // List: only the kind
}

// Mode is how a call goes wrong.
type Mode uint8

// The ways.
const (
	None    Mode = iota
	Before       // an error, nothing was done
	After        // done, and an error: the caller cannot know
	Short        // ReadAt: half the bytes and backend.ErrShort; ReadAll: half the bytes, no error; List: half the names and an error; others: Before
	Corrupt      // ReadAt, ReadAll: one bit in the middle is wrong, no error; others: None
)

// String returns the word for test names.
func (m Mode) String() string {
	return [...]string{"none", "before", "after", "short", "corrupt"}[m]
}

// Fault is what happens to a call.
type Fault struct {
	Mode  Mode
	Err   error         // what an error wraps; nil means ErrInjected
	Delay time.Duration // waited first, or until the context ends
}

// Plan decides what happens to a call. It may be called in parallel, and may block.
type Plan func(Call) Fault

// Nth is the plan that spoils only call n.
func Nth(n int, mode Mode) Plan {
	return func(c Call) Fault {
		if c.N == n {
			return Fault{Mode: mode}
		}
		return Fault{}
	}
}

// From is the plan that spoils call n and all after it, as a broken connection does.
func From(n int, mode Mode) Plan {
	return func(c Call) Fault {
		if c.N >= n {
			return Fault{Mode: mode}
		}
		return Fault{}
	}
}

// Latency is the plan that delays every call by d.
func Latency(d time.Duration) Plan {
	return func(Call) Fault { return Fault{Delay: d} }
}

// Backend is a backend.Backend that fails to plan.
type Backend struct {
	inner backend.Backend

	mu    sync.Mutex
	plan  Plan   // guarded by mu
	calls []Call // guarded by mu
}

var _ backend.Backend = (*Backend)(nil)

// New wraps inner. A nil plan spoils nothing.
func New(inner backend.Backend, plan Plan) *Backend { return &Backend{inner: inner, plan: plan} }

// SetPlan changes the plan for the calls that follow; their numbers go on.
func (b *Backend) SetPlan(plan Plan) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.plan = plan
}

// Calls returns how many calls there were.
func (b *Backend) Calls() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.calls)
}

// Trace returns the calls so far, in the order of their numbers.
func (b *Backend) Trace() []Call {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Call(nil), b.calls...)
}

// begin numbers the call, waits the delay, and returns the mode with the error to use.
func (b *Backend) begin(ctx context.Context, op Op, f backend.File) (Mode, error) {
	b.mu.Lock()
	call := Call{N: len(b.calls), Op: op, File: f}
	b.calls = append(b.calls, call)
	plan := b.plan
	b.mu.Unlock()
	if plan == nil {
		return None, nil
	}
	fault := plan(call)
	if fault.Delay > 0 {
		timer := time.NewTimer(fault.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return Before, fmt.Errorf("%v %v: %w", op, f, ctx.Err())
		}
	}
	err := fault.Err
	if err == nil {
		err = ErrInjected
	}
	return fault.Mode, fmt.Errorf("%v %v (call %d): %w", op, f, call.N, err)
}

// Save implements backend.Backend.
func (b *Backend) Save(ctx context.Context, f backend.File, content []byte) error {
	mode, fault := b.begin(ctx, Save, f)
	if mode == Before || mode == Short {
		return fault
	}
	err := b.inner.Save(ctx, f, content)
	if err == nil && mode == After {
		err = fault
	}
	return err
}

// ReadAt implements backend.Backend.
func (b *Backend) ReadAt(ctx context.Context, f backend.File, p []byte, offsetBytes int64) error {
	mode, fault := b.begin(ctx, ReadAt, f)
	if mode == Before {
		return fault
	}
	if err := b.inner.ReadAt(ctx, f, p, offsetBytes); err != nil {
		return err
	}
	switch mode {
	case After:
		return fault
	case Short:
		clear(p[len(p)/2:])
		return fmt.Errorf("%w: %w", fault, backend.ErrShort)
	case Corrupt:
		flip(p)
	}
	return nil
}

// ReadAll implements backend.Backend.
func (b *Backend) ReadAll(ctx context.Context, f backend.File, maxBytes int64) ([]byte, error) {
	mode, fault := b.begin(ctx, ReadAll, f)
	if mode == Before {
		return nil, fault
	}
	content, err := b.inner.ReadAll(ctx, f, maxBytes)
	if err != nil {
		return nil, err
	}
	switch mode {
	case After:
		return nil, fault
	case Short:
		content = content[:len(content)/2]
	case Corrupt:
		flip(content)
	}
	return content, nil
}

func flip(p []byte) {
	if len(p) > 0 {
		p[len(p)/2] ^= 1
	}
}

// Stat implements backend.Backend.
func (b *Backend) Stat(ctx context.Context, f backend.File) (backend.Info, error) {
	mode, fault := b.begin(ctx, Stat, f)
	if mode == Before || mode == Short {
		return backend.Info{}, fault
	}
	info, err := b.inner.Stat(ctx, f)
	if err == nil && mode == After {
		return backend.Info{}, fault
	}
	return info, err
}

// List implements backend.Backend.
func (b *Backend) List(ctx context.Context, kind backend.Kind, fn func(backend.Info) error) error {
	mode, fault := b.begin(ctx, List, backend.File{Kind: kind})
	if mode == Before {
		return fault
	}
	if mode == Short {
		return b.listHalf(ctx, kind, fn, fault)
	}
	err := b.inner.List(ctx, kind, fn)
	if err == nil && mode == After {
		err = fault
	}
	return err
}

func (b *Backend) listHalf(ctx context.Context, kind backend.Kind, fn func(backend.Info) error, fault error) error {
	var infos []backend.Info
	err := b.inner.List(ctx, kind, func(info backend.Info) error {
		infos = append(infos, info)
		return nil
	})
	if err != nil {
		return err
	}
	for _, info := range infos[:len(infos)/2] {
		if err := fn(info); err != nil {
			return err
		}
	}
	return fault
}

// Remove implements backend.Backend.
func (b *Backend) Remove(ctx context.Context, f backend.File) error {
	mode, fault := b.begin(ctx, Remove, f)
	if mode == Before || mode == Short {
		return fault
	}
	err := b.inner.Remove(ctx, f)
	if err == nil && mode == After {
		err = fault
	}
	return err
}

// Location implements backend.Backend.
func (b *Backend) Location() string { return b.inner.Location() }

// Close implements backend.Backend.
func (b *Backend) Close() error { return b.inner.Close() }
