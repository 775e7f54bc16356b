package repo_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/repo"
)

func TestEnding(t *testing.T) {
	const total, least = 10 * time.Second, 2 * time.Second
	for _, c := range []struct {
		ended, left time.Duration // ended: how long ago, negative for not at all
	}{{-1, total}, {0, total}, {3 * time.Second, 7 * time.Second}, {9 * time.Second, least}, {time.Minute, least}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			e := repo.WatchEnd(ctx)
			defer e.Stop()
			time.Sleep(time.Hour)
			if c.ended >= 0 {
				cancel()
				synctest.Wait()
				time.Sleep(c.ended)
			}
			rest, done := e.Context(ctx, total, least)
			defer done()
			if end, ok := rest.Deadline(); rest.Err() != nil || !ok || time.Until(end) != c.left {
				t.Errorf("ended %v ago: %v, %v are left, want %v", c.ended, rest.Err(), time.Until(end), c.left)
			}
		})
	}
}
