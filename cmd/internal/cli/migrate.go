package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/check"
)

// The only migration that there is.
const (
	upgradeName = "upgrade_repo_v2"
	upgradeDoes = "upgrade a repository to version 2"
)

func newMigrate(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "migrate [flags] [migration ...]",
		Short: "Bring the repository to a newer format",
		Long: `Lists the migrations that can be applied to the repository, or applies those that are named.

` + upgradeName + ` makes a repository of version 1 one of version 2, which compresses. The repository is checked
first. A copy of its config is kept in the current directory until the new one is stored; should that be
interrupted and the config be gone, put the copy in its place. What is stored already stays as it is until
prune --repack-uncompressed compresses it.`,
		Example: `  vitrine migrate
  vitrine migrate ` + upgradeName,
		RunE: func(cmd *cobra.Command, names []string) error { return a.runMigrate(cmd.Context(), names, force) },
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "apply a migration a second time")
	return cmd
}

func (a *app) runMigrate(ctx context.Context, names []string, force bool) error {
	for _, name := range names {
		if name != upgradeName {
			return usagef("vitrine migrate", "unknown migration %q%s", name, didYouMean("", name, []string{upgradeName}))
		}
	}
	a.ownFiles = true
	r, err := a.openRepository(ctx, wiring.NoIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	return a.withLock(ctx, r, true, func(ctx context.Context) error {
		if len(names) == 0 {
			a.listMigrations(r)
			return nil
		}
		return a.upgrade(ctx, r, force)
	})
}

// migrationMessage is a migration that can be applied, under --json; restic has none.
type migrationMessage struct {
	MessageType string `json:"message_type"` // migration
	Name        string `json:"name"`
	Description string `json:"description"`
}

// migrationList ends the list of migrations under --json.
type migrationList struct {
	MessageType string `json:"message_type"` // summary
	Available   int    `json:"available_migrations"`
}

// migrationSummary tells under --json how a migration ended; restic has none.
type migrationSummary struct {
	MessageType string `json:"message_type"` // summary
	Migration   string `json:"migration"`
	Applied     bool   `json:"applied"` // false: there was nothing to do
}

// migrated tells programs how the migration ended.
func (a *app) migrated(applied bool) {
	if a.print.JSONMode() {
		a.print.Message(migrationSummary{"summary", upgradeName, applied})
	}
}

func (a *app) listMigrations(r *repo.Repository) {
	applies := r.Config().Version < repo.MaxVersion
	if a.print.JSONMode() {
		summary := migrationList{MessageType: "summary"}
		if applies {
			a.print.Message(migrationMessage{"migration", upgradeName, upgradeDoes})
			summary.Available = 1
		}
		a.print.Message(summary)
		return
	}
	a.print.Result("available migrations:")
	if applies {
		a.print.Result("  %s\t%s", upgradeName, upgradeDoes)
	} else {
		a.print.Result("no migrations found")
	}
}

// upgrade checks the repository and upgrades it.
func (a *app) upgrade(ctx context.Context, r *repo.Repository, force bool) error {
	if r.Config().Version >= repo.MaxVersion {
		if !force {
			a.print.Warn("migration %s cannot be applied: the repository is of version %d already\nIf you want to apply this migration anyway, re-run with option --force", upgradeName, r.Config().Version)
			a.migrated(false)
			return nil
		}
		a.print.Warn("check for migration %s failed, continuing anyway", upgradeName)
	}
	a.print.Line("checking repository integrity...")
	show := progress.NewCheck(a.print)
	defer show.End()
	res, err := check.Run(ctx, r, check.Options{}, show)
	show.End()
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	if res.Errors > 0 {
		return fmt.Errorf("the repository is damaged (%s, named above) and is not upgraded; repair it first", progress.Count(res.Errors, "error"))
	}
	a.print.Line("applying migration %s...", upgradeName)
	name, err := filepath.Abs(fmt.Sprintf("config-%.8s", r.Config().ID))
	if err != nil {
		return fmt.Errorf("keep a copy of the config: %w", err)
	}
	kept := false
	err = r.Upgrade(ctx, func(sealed []byte) error {
		kept = true
		return keepConfig(name, sealed)
	})
	if err != nil {
		if kept {
			err = fmt.Errorf("%w; the old config is in %s", err, name)
		}
		return fmt.Errorf("migration %s failed: %w", upgradeName, err)
	}
	if err := os.Remove(name); err != nil {
		a.print.Warn(progress.Warning+"the copy of the old config stays: %v", err)
	}
	a.migrated(true)
	a.print.Line("migration %s: success", upgradeName)
	return nil
}

// keepConfig makes a durable copy. One that is there, of an interrupted run, may be the only one: it is not
// overwritten.
func keepConfig(name string, sealed []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		if there, readErr := os.ReadFile(name); readErr == nil && bytes.Equal(there, sealed) {
			return nil
		}
		return fmt.Errorf("%w, with other content: move it away", err)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(sealed)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
