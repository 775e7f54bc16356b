package progress

import (
	"fmt"
	"sync"
	"time"
)

// Step is a part of a task that does one thing after the other.
type Step struct {
	Title string // said when it begins
	Unit  string // what it counts; "" are bytes
}

// Steps shows a task step by step: each has a line, and a bar of its own. It is a View.
type Steps struct {
	p *Printer

	mu          sync.Mutex // guards the fields below
	step        Step
	begun       bool // step is set
	since       time.Time
	done, total int64
	stop        func() // ends the display of the step
}

// NewSteps returns the display of a task whose steps are yet to come.
func NewSteps(p *Printer) *Steps { return &Steps{p: p, stop: func() {}} }

// Show tells how much of a step is done; total 0 means unknown. Another step than before begins anew.
func (s *Steps) Show(step Step, done, total int64) {
	s.mu.Lock()
	if s.begun && step == s.step {
		s.done, s.total = done, total
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	s.End()
	s.mu.Lock()
	s.step, s.begun, s.since, s.done, s.total = step, true, time.Now(), done, total
	s.mu.Unlock()
	s.p.Line("%s", step.Title)
	stop := s.p.Live(time.Now(), s)
	s.mu.Lock()
	s.stop = stop
	s.mu.Unlock()
}

// End closes the display of the step that is shown. The task and the caller of End
// must not report at the same time.
func (s *Steps) End() {
	s.mu.Lock()
	stop := s.stop
	s.stop = func() {}
	s.mu.Unlock()
	stop() // not under the lock: the last drawing asks for the state
}

func (s *Steps) state() (step Step, done, total uint64, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.step, uint64(max(0, s.done)), uint64(max(0, s.total)), s.since
}

// Share implements View.
func (s *Steps) Share() (done, total uint64) {
	_, done, total, _ = s.state()
	return done, total
}

// Rate implements View.
func (s *Steps) Rate() string {
	step, done, total, since := s.state()
	elapsed := time.Since(since)
	rate := ""
	if step.Unit == "" {
		rate = Rate(done, elapsed)
	}
	if left := Remaining(done, total, elapsed); left > 0 {
		if rate != "" {
			rate += ", "
		}
		rate += Clock(left) + " left"
	}
	return rate
}

// Status implements View.
func (s *Steps) Status() string {
	step, done, total, _ := s.state()
	switch {
	case step.Unit == "":
		return fmt.Sprintf("%s of %s", Bytes(done), Bytes(total))
	case total > 0:
		return fmt.Sprintf("%d / %d %s", done, total, step.Unit)
	}
	return fmt.Sprintf("%d %s", done, step.Unit)
}

// Current implements View.
func (s *Steps) Current() []string { return nil }

// Message implements View: restic has no status messages for such tasks.
func (s *Steps) Message() any { return nil }
