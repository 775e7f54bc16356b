// Package forget removes snapshots: those that a policy does not keep, or those that are named. It makes
// a Plan, which can be shown, and then executes it. The data that only these snapshots needed stays
// until a prune.
//
// A plan never empties a group of snapshots because of a policy that fits none of them, such as a tag
// with a typing error. Whoever wants all snapshots gone says so with Options.RemoveAll.
package forget

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/retention"
	"vitrine/repo/snapshot"
)

// ErrNoPolicy is the error of a policy without rules.
var ErrNoPolicy = errors.New("no policy was specified, no snapshots will be removed")

// ErrLast is the error of a policy that keeps nothing of a group.
var ErrLast = errors.New("refusing to delete last snapshot of snapshot group")

// Options say what ByPolicy does.
type Options struct {
	Policy    retention.Policy
	GroupBy   snapshot.GroupBy // the policy is applied to each group
	RemoveAll bool             // allows a policy without rules, which removes everything
	Now       time.Time        // snapshots that are later do not count as the newest
}

// Group is what happens to the snapshots of a group. Both lists are newest first.
type Group struct {
	Key    snapshot.GroupKey
	Keep   []retention.Reason
	Remove []*snapshot.Snapshot
}

// Plan says what to remove.
type Plan struct {
	Groups []Group // in the order of their keys; none when the snapshots were named
	Remove []blob.ID
}

// ByPolicy plans to remove what a policy does not keep. The error is of class ErrNoPolicy or ErrLast.
func ByPolicy(list []*snapshot.Snapshot, o Options) (Plan, error) {
	if o.Policy.IsZero() && !o.RemoveAll {
		return Plan{}, ErrNoPolicy
	}
	var p Plan
	for _, g := range snapshot.Group(list, o.GroupBy) {
		keep, remove := retention.Apply(o.Policy, g.Snapshots, o.Now)
		if len(keep) == 0 && !o.Policy.IsZero() {
			return Plan{}, fmt.Errorf("%w %q: the policy fits none of its %d; to remove a snapshot all the same, give its ID", ErrLast, describe(g.Key), len(remove))
		}
		p.Groups = append(p.Groups, Group{g.Key, keep, remove})
		for _, sn := range remove {
			p.Remove = append(p.Remove, sn.ID)
		}
	}
	return p, nil
}

// describe names a group.
func describe(k snapshot.GroupKey) string {
	var parts []string
	if k.Hostname != "" {
		parts = append(parts, "host "+k.Hostname)
	}
	if len(k.Paths) > 0 {
		parts = append(parts, fmt.Sprintf("path %v", k.Paths))
	}
	if len(k.Tags) > 0 {
		parts = append(parts, fmt.Sprintf("tags %v", k.Tags))
	}
	return strings.Join(parts, ", ")
}

// ByName plans to remove the snapshots of the list.
func ByName(list []*snapshot.Snapshot) Plan {
	var p Plan
	for _, sn := range list {
		p.Remove = append(p.Remove, sn.ID)
	}
	return p
}

// Files is what Execute needs of a repository; *repo.Repository has it.
type Files interface {
	RemoveFile(ctx context.Context, kind backend.Kind, id blob.ID) error
}

// parallelRemoves is how many snapshots are removed at a time.
const parallelRemoves = 8

// Execute removes the snapshots of a plan; one that is not there any more counts as removed. It goes on
// when some cannot be removed, tells done of each snapshot with its error, one at a time, and returns
// how many failed. The caller holds an exclusive lock. The error is that of the context, if it ended.
func Execute(ctx context.Context, r Files, p Plan, done func(id blob.ID, err error)) (failed int, err error) {
	var mu sync.Mutex // guards failed, and calls of done
	var group errgroup.Group
	group.SetLimit(parallelRemoves)
	for _, id := range p.Remove {
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			err := r.RemoveFile(ctx, backend.Snapshot, id)
			if errors.Is(err, backend.ErrNotExist) {
				err = nil
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed++
			}
			done(id, err)
			return nil
		})
	}
	return failed, group.Wait()
}
