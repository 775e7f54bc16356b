package cli

import (
	"context"
	"path/filepath"

	"github.com/spf13/pflag"

	"vitrine/repo"
	"vitrine/repo/snapshot"
)

// filterFlags select snapshots.
type filterFlags struct {
	hosts, tags, paths []string
}

// register defines the flags; scope says when they count.
func (f *filterFlags) register(flags *pflag.FlagSet, scope string) { f.registerAs(flags, "H", scope) }

// registerLong is register for commands in which -H means something else.
func (f *filterFlags) registerLong(flags *pflag.FlagSet, scope string) {
	f.registerAs(flags, "", scope)
}

func (f *filterFlags) registerAs(flags *pflag.FlagSet, letter, scope string) {
	flags.StringArrayVarP(&f.hosts, "host", letter, nil, "only snapshots of this `host`"+scope+" (repeatable; $VITRINE_HOST)")
	flags.StringArrayVar(&f.tags, "tag", nil, "only snapshots with all of these `tag[,tag,...]`"+scope+" (repeatable: any of the lists)")
	flags.StringArrayVar(&f.paths, "path", nil, "only snapshots of this absolute `path`"+scope+" (repeatable: all of them)")
}

// filter returns what the flags select. An empty host selects every host, so that it can
// undo the environment's.
func (f *filterFlags) filter() snapshot.Filter {
	var filter snapshot.Filter
	for _, h := range f.hosts {
		if h != "" {
			filter.Hosts = append(filter.Hosts, h)
		}
	}
	for _, p := range f.paths {
		filter.Paths = append(filter.Paths, filepath.Clean(p))
	}
	if len(f.tags) > 0 {
		filter.Tags = snapshot.ParseTagList(f.tags)
	}
	return filter
}

// findSnapshot is r.FindSnapshot for a filter that the user has given: for "latest", and only then, a path of it may be relative,
// as in restic.
func findSnapshot(ctx context.Context, r *repo.Repository, spec string, f snapshot.Filter) (*snapshot.Snapshot, error) {
	if spec == "latest" {
		f.Paths = absolute(f.Paths)
	}
	return r.FindSnapshot(ctx, spec, f)
}
