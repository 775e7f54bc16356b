package cli

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
)

// longestAgeDays is the largest age that a time.Duration holds: 292 years.
const longestAgeDays = int(math.MaxInt64 / (24 * time.Hour))

// cacheOptions are the flags of cache.
type cacheOptions struct {
	cleanup    bool
	maxAgeDays int
	noSize     bool
}

func newCache(a *app) *cobra.Command {
	var o cacheOptions
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "List the caches on this machine, and remove old ones",
		Long: `Lists the caches of repositories below the cache directory. A cache holds the index of a
repository and, when the repository is on the network, files of it as they are stored there: encrypted. All
of it can be had again from the repository, so that deleting a cache costs time only.
--cleanup removes those that no command has used for --max-age days.`,
		Example: `  vitrine cache
  vitrine cache --cleanup --max-age 7`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return a.runCache(o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.cleanup, "cleanup", false, "remove the old caches")
	f.IntVar(&o.maxAgeDays, "max-age", int(oldCache/(24*time.Hour)), "a cache is old when it was not used for so many `days`")
	f.BoolVar(&o.noSize, "no-size", false, "do not add up what each cache takes")
	return cmd
}

// cacheJSON is one cache in the output of `cache --json`.
type cacheJSON struct {
	RepoID   string    `json:"repo_id"`
	Path     string    `json:"path"`
	LastUsed time.Time `json:"last_used"`
	Old      bool      `json:"old"`
	Size     *int64    `json:"size,omitempty"` // bytes; none with --no-size
}

// cleanupSummary is the message of `cache --cleanup --json`.
type cleanupSummary struct {
	MessageType string `json:"message_type"` // summary
	Removed     int    `json:"removed_caches"`
}

func (a *app) runCache(o cacheOptions) error {
	switch {
	case a.global.noCache:
		return usagef("vitrine cache", "--no-cache leaves nothing to list")
	case o.maxAgeDays < 0:
		return usagef("vitrine cache", "--max-age %d: an age is not negative", o.maxAgeDays)
	case o.maxAgeDays > longestAgeDays:
		return usagef("vitrine cache", "--max-age %d: at most %d days", o.maxAgeDays, longestAgeDays)
	}
	base := a.cacheBase()
	if base == "" {
		return errors.New("there is no place for caches; name one with --cache-dir")
	}
	maxAge := time.Duration(o.maxAgeDays) * 24 * time.Hour
	if o.cleanup || a.global.cleanupCache {
		removed, err := wiring.RemoveOldCaches(base, maxAge)
		if a.print.JSONMode() && err == nil {
			a.print.Message(cleanupSummary{"summary", removed})
		}
		a.print.Line("removed %s below %s", progress.Count(removed, "old cache"), wiring.CacheTop(base))
		return err
	}
	list, err := wiring.Caches(base)
	if err != nil {
		return err
	}
	found := make([]cacheJSON, 0, len(list))
	for _, c := range list {
		one := cacheJSON{RepoID: c.RepoID, Path: c.Path, LastUsed: c.Used, Old: time.Since(c.Used) >= maxAge}
		if !o.noSize {
			size, err := c.Size()
			if err != nil {
				return err
			}
			one.Size = &size
		}
		found = append(found, one)
	}
	if a.print.JSONMode() {
		a.print.Message(found)
		return nil
	}
	return cacheTable(found, o.noSize, wiring.CacheTop(base)).Write(a.stdout)
}

// cacheTable lays caches out for people.
func cacheTable(found []cacheJSON, noSize bool, top string) *progress.Table {
	heads := []string{"Repo ID", "Last Used", "Old"}
	if !noSize {
		heads = append(heads, "Size")
	}
	t := progress.NewTable(heads...)
	for _, c := range found {
		row := []string{c.RepoID[:10], fmt.Sprintf("%d days ago", int(time.Since(c.LastUsed).Hours()/24)), ""}
		if c.Old {
			row[2] = "yes"
		}
		if c.Size != nil {
			row = append(row, progress.Bytes(uint64(*c.Size)))
		}
		t.Row(row...)
	}
	t.Footer(progress.Count(len(found), "cache") + " below " + top)
	return t
}
