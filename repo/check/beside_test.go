package check_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
	"vitrine/repo/check"
	"vitrine/repo/prune"
	"vitrine/repo/repotest"
)

// silent is a prune.Reporter.
type silent struct{ t *testing.T }

func (silent) Progress(prune.Phase, int64, int64) {}
func (s silent) Warn(err error)                   { s.t.Error(err) }

// TestPruneMeanwhile: a check without a lock finds nothing wrong when a prune moves everything before one of the calls that look
// for index files and packs.
func TestPruneMeanwhile(t *testing.T) {
	whole := newSample(t, 2)
	whole.change(backend.File{Kind: backend.Snapshot, Name: whole.first.String()}, gone)
	for i := 0; ; i++ {
		s := whole.clone(t)
		var mu sync.Mutex // guards pruned and calls
		pruned, calls := "", 0
		be := fault.New(s.be, nil)
		r, err := repo.Open(t.Context(), be, repo.Options{Password: []byte(repotest.Password)})
		if err != nil {
			t.Fatal(err)
		}
		be.SetPlan(func(c fault.Call) fault.Fault {
			if c.File.Kind != backend.Index && (c.File.Kind != backend.Pack || c.Op != fault.List) {
				return fault.Fault{}
			}
			mu.Lock()
			defer mu.Unlock()
			if calls++; calls == i+1 {
				pruned = fmt.Sprint(c)
				before := s.files(backend.Index)
				plan, err := prune.MakePlan(t.Context(), s.reopen(), prune.Options{MaxRepackBytes: prune.NoLimit, Small: true}, silent{t})
				if err == nil {
					err = plan.Execute(t.Context(), silent{t})
				}
				if after := s.files(backend.Index); err != nil || slices.Equal(before, after) {
					t.Errorf("prune: %v, from %v to %v", err, before, after)
				}
			}
			return fault.Fault{}
		})
		f := &found{}
		res, err := check.Run(t.Context(), r, check.Options{ReadData: true}, f)
		if err != nil || res.Errors > 0 {
			t.Errorf("prune before %s: %v\n%s", pruned, err, strings.Join(f.errors, "\n"))
		}
		if pruned == "" {
			if i < 4 {
				t.Errorf("only %d calls", i)
			}
			return
		}
	}
}
