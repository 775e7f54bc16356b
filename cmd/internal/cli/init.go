package cli

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strconv"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/chunker"
)

// initOptions are the flags of init.
type initOptions struct {
	version        string
	copyChunker    bool
	fromNoPassword bool
}

func newInit(a *app) *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a new repository",
		Long: `Makes a new, empty repository at the location that --repo names, with one key that the
password opens. Without the password nobody can read the repository, you included.`,
		Example: `  vitrine init --repo /srv/backup
  vitrine init --repo /srv/second --copy-chunker-params --from-repo /srv/backup`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runInit(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.version, "repository-version", "stable", "format `version` of the repository: 1, 2, latest or stable")
	f.BoolVar(&o.copyChunker, "copy-chunker-params", false, "cut files as the repository of --from-repo does, so that copies between the two share data")
	a.from.registerFrom(f, &o.fromNoPassword, "whose chunker parameters are taken")
	return cmd
}

// formatVersion reads --repository-version.
func formatVersion(s string) (uint, error) {
	switch s {
	case "stable":
		return repo.DefaultVersion, nil
	case "latest":
		return repo.MaxVersion, nil
	}
	v, err := strconv.ParseUint(s, 10, 16)
	if err != nil || v < repo.MinVersion || v > repo.MaxVersion {
		return 0, fmt.Errorf("--repository-version %q: choose %d, %d, latest or stable", s, repo.MinVersion, repo.MaxVersion)
	}
	return uint(v), nil
}

// initializedMessage is the output of init --json.
type initializedMessage struct {
	MessageType string `json:"message_type"` // initialized
	ID          string `json:"id"`
	Repository  string `json:"repository"`
}

func (a *app) runInit(ctx context.Context, o initOptions) error {
	version, err := formatVersion(o.version)
	if err != nil {
		return err
	}
	if !o.copyChunker && a.from.location != "" && a.variables["from-repo"] == "" {
		return usagef("vitrine init", "--from-repo without --copy-chunker-params: nothing of that repository is taken")
	}
	location, err := a.where(&a.global.access, "repo")
	if err != nil {
		return err
	}
	if err := a.vacant(ctx, location); err != nil {
		return fmt.Errorf("create repository: %w", err)
	}
	ro := repo.InitOptions{Version: version, Hostname: hostname()}
	if u, err := user.Current(); err == nil {
		ro.Username = u.Username
	}
	if ro.Polynomial, err = a.fromPolynomial(ctx, o); err != nil {
		return err
	}
	if ro.Password, err = a.password(ctx, &a.global.access, "new repository", true, a.global.noPassword); err != nil {
		return err
	}
	be, err := wiring.CreateBackend(ctx, location, a.storeOptions())
	if err != nil {
		return fmt.Errorf("create repository: %w", err)
	}
	defer be.Close()
	c, err := repo.Init(ctx, be, ro)
	if err != nil {
		return fmt.Errorf("create repository: %w", err)
	}
	if a.print.JSONMode() {
		a.print.Message(initializedMessage{"initialized", c.ID, wiring.Shown(location)})
		return nil
	}
	a.print.Line("created restic repository %.10s at %s (format version %d)\n", c.ID, wiring.Shown(location), c.Version)
	a.print.Line("Whoever wants to read it needs the password. If the password is lost, so is all that\nis backed up here: keep a copy of it somewhere else.")
	return nil
}

// vacant refuses a location that holds a repository, before a password is asked for.
func (a *app) vacant(ctx context.Context, location string) error {
	be, err := wiring.OpenBackend(ctx, location, a.storeOptions())
	if errors.Is(err, repo.ErrNoRepository) {
		return nil
	} else if err != nil {
		return err
	}
	defer be.Close()
	return wiring.Exists(be.Location())
}

// fromPolynomial returns the chunker polynomial of the repository that --from-repo names, and zero
// when a fresh one is to be chosen.
func (a *app) fromPolynomial(ctx context.Context, o initOptions) (chunker.Pol, error) {
	if !o.copyChunker {
		return 0, nil
	}
	r, err := a.open(ctx, &a.from, "from-repo", o.fromNoPassword, wiring.NoIndex)
	if err != nil {
		return 0, fmt.Errorf("read the chunker parameters: %w", err)
	}
	return r.Config().Polynomial, r.Close()
}
