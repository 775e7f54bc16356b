package fault_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/fault"
	"vitrine/repo/backend/mem"
)

func TestConformanceWithoutFault(t *testing.T) {
	backendtest.Run(t, func(*testing.T) backend.Backend { return fault.New(mem.New(), nil) })
}

// exercise makes one call of each kind and returns the errors by name.
func exercise(t *testing.T, be backend.Backend, f backend.File, content []byte) (errs map[fault.Op]error, read, all []byte, listed int) {
	t.Helper()
	ctx := t.Context()
	errs = map[fault.Op]error{}
	note := func(op fault.Op, err error) {
		if err != nil {
			errs[op] = err
		}
	}
	note(fault.Save, be.Save(ctx, f, content))
	read = make([]byte, len(content))
	note(fault.ReadAt, be.ReadAt(ctx, f, read, 0))
	all, err := be.ReadAll(ctx, f, 1000)
	note(fault.ReadAll, err)
	_, err = be.Stat(ctx, f)
	note(fault.Stat, err)
	note(fault.List, be.List(ctx, f.Kind, func(backend.Info) error { listed++; return nil }))
	note(fault.Remove, be.Remove(ctx, f))
	return errs, read, all, listed
}

// TestNth spoils each call in turn, in each mode, and looks that only it is spoiled.
func TestNth(t *testing.T) {
	content := backendtest.Content(1, 100)
	f := backendtest.FileOf(backend.Pack, content)
	for _, mode := range []fault.Mode{fault.Before, fault.After, fault.Short, fault.Corrupt} {
		for op := fault.Save; op <= fault.Remove; op++ {
			t.Run(mode.String()+op.String(), func(t *testing.T) {
				inner := mem.New()
				// With the file there already, only the spoiled call can fail.
				if err := inner.Save(t.Context(), f, content); err != nil {
					t.Fatal(err)
				}
				be := fault.New(inner, fault.Nth(int(op), mode))
				errs, read, all, listed := exercise(t, be, f, content)
				silent := mode == fault.Corrupt || mode == fault.Short && op == fault.ReadAll
				if silent && len(errs) != 0 || !silent && (len(errs) != 1 || !errors.Is(errs[op], fault.ErrInjected)) {
					t.Errorf("errors %v", errs)
				}
				if mode == fault.Short && op == fault.ReadAt && !errors.Is(errs[op], backend.ErrShort) {
					t.Errorf("short read: %v", errs[op])
				}
				if whole := bytes.Equal(read, content); whole == (op == fault.ReadAt && mode != fault.After) {
					t.Errorf("ReadAt whole: %v", whole)
				}
				if whole := bytes.Equal(all, content); whole == (op == fault.ReadAll) {
					t.Errorf("ReadAll whole: %v", whole)
				}
				if want := 1; op != fault.List && listed != want {
					t.Errorf("%d files listed", listed)
				}
				_, err := inner.Stat(t.Context(), f)
				if removed := err != nil; removed == (op == fault.Remove && (mode == fault.Before || mode == fault.Short)) {
					t.Errorf("removed: %v", removed)
				}
			})
		}
	}
}

func TestFromAndTrace(t *testing.T) {
	content := []byte("content")
	f := backendtest.FileOf(backend.Index, content)
	be := fault.New(mem.New(), fault.From(3, fault.Before))
	errs, _, _, _ := exercise(t, be, f, content)
	if len(errs) != 3 || errs[fault.Stat] == nil || errs[fault.List] == nil || errs[fault.Remove] == nil {
		t.Errorf("errors %v, want those of Stat, List, Remove", errs)
	}
	want := []fault.Call{
		{N: 0, Op: fault.Save, File: f}, {N: 1, Op: fault.ReadAt, File: f}, {N: 2, Op: fault.ReadAll, File: f},
		{N: 3, Op: fault.Stat, File: f}, {N: 4, Op: fault.List, File: backend.File{Kind: backend.Index}}, {N: 5, Op: fault.Remove, File: f},
	}
	if diff := cmp.Diff(want, be.Trace()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	be.SetPlan(nil)
	if _, err := be.Stat(t.Context(), f); err != nil || be.Calls() != 7 {
		t.Errorf("after SetPlan(nil): %v, %d calls", err, be.Calls())
	}
}

func TestOwnError(t *testing.T) {
	gone := errors.New("server went away")
	be := fault.New(mem.New(), func(fault.Call) fault.Fault { return fault.Fault{Mode: fault.Before, Err: gone} })
	if err := be.Save(t.Context(), backend.File{}, nil); !errors.Is(err, gone) || errors.Is(err, fault.ErrInjected) {
		t.Errorf("error %v, want %v", err, gone)
	}
}

func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		be := fault.New(mem.New(), fault.Latency(50*time.Millisecond))
		start := time.Now()
		if err := be.Save(t.Context(), backend.File{}, nil); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 50*time.Millisecond {
			t.Errorf("Save took %v", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		start = time.Now()
		_, err := be.Stat(ctx, backend.File{})
		if d := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || d != 10*time.Millisecond {
			t.Errorf("Stat: %v after %v", err, d)
		}
	})
}
