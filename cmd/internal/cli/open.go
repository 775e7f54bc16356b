package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/backend"
)

// where returns the location of a repository, from the flag or from the file it names.
func (a *app) where(s *access, flag string) (string, error) {
	switch {
	case s.location != "" && s.locationFile != "":
		return "", fmt.Errorf("%s and %s exclude each other", a.said(flag), a.said(flagFile(flag)+"-file"))
	case s.location != "":
		return s.location, nil
	case s.locationFile == "":
		return "", fmt.Errorf("no repository is named: use --%s, --%s-file or $VITRINE_%s", flag, flagFile(flag), flagVariable(flag))
	}
	content, err := os.ReadFile(s.locationFile)
	if err != nil {
		return "", fmt.Errorf("read the repository's location: %w", err)
	}
	location := strings.TrimSpace(string(content))
	if location == "" {
		return "", fmt.Errorf("read the repository's location: %s is empty", s.locationFile)
	}
	return location, nil
}

// flagFile makes "repository" of "repo", as the -file flags are spelled.
func flagFile(flag string) string { return strings.TrimSuffix(flag, "repo") + "repository" }

// flagVariable is the variable of the flag.
func flagVariable(flag string) string {
	return strings.ToUpper(strings.ReplaceAll(flagFile(flag), "-", "_"))
}

// openRepository opens the repository that the global flags name. The caller closes it.
func (a *app) openRepository(ctx context.Context, use wiring.IndexUse) (*repo.Repository, error) {
	r, err := a.open(ctx, &a.global.access, "repo", a.global.noPassword, use)
	if err != nil {
		return nil, err
	}
	a.cleanUpCaches()
	if a.print.Terminal() {
		c := r.Config()
		a.print.Line("repository %.8s opened (version %d, compression level %s)", c.ID, c.Version, a.global.compression)
	}
	return r, nil
}

func (a *app) open(ctx context.Context, s *access, flag string, noPassword bool, use wiring.IndexUse) (*repo.Repository, error) {
	location, err := a.where(s, flag)
	if err != nil {
		return nil, err
	}
	be, err := wiring.OpenBackend(ctx, location, a.storeOptions())
	if err != nil {
		return nil, err
	}
	return a.openWithPassword(ctx, be, s, noPassword, use, wiring.IsRemote(location))
}

// storeOptions are what flags and environment say of how a store is reached.
func (a *app) storeOptions() wiring.StoreOptions {
	o := a.global.store
	o.Log = a.print.Logger()
	o.Env = func(name string) string { value, _ := a.env(name); return value }
	o.Transport = wiring.TransportOptions{
		CACertFiles: a.global.caCerts, ClientCertFile: a.global.tlsClientCert, Insecure: a.global.insecureTLS,
		StuckAfter: a.global.stuckAfter,
	}
	o.UploadBytesPerSecond = int64(a.global.limitUpload) << 10
	o.DownloadBytesPerSecond = int64(a.global.limitDownload) << 10
	return o
}

// maxTyped is how often a person at a terminal may type the password, as with restic.
const maxTyped = 3

// openWithPassword opens the repository in be, which it takes over also when it fails.
func (a *app) openWithPassword(ctx context.Context, be backend.Backend, s *access, noPassword bool, use wiring.IndexUse, remote bool) (*repo.Repository, error) {
	lent := &lentStore{Backend: be, lent: true}
	for n := 1; ; n++ {
		r, err := a.tryPassword(ctx, lent, s, noPassword, use, remote)
		switch {
		case err == nil:
			lent.lent = false // it is closed with the repository
			return r, nil
		case !errors.Is(err, repo.ErrWrongPassword):
			return nil, errors.Join(err, be.Close())
		case n < maxTyped && a.mayAskAgain(s, noPassword):
			a.print.Warn("wrong password, try again")
		default:
			return nil, errors.Join(a.wrongPassword(err, s, noPassword), be.Close())
		}
	}
}

// wrongPassword adds to err where the password came from.
func (a *app) wrongPassword(err error, s *access, none bool) error {
	switch {
	case none && s == &a.from:
		return fmt.Errorf("%w; --from-insecure-no-password says that there is none: give one in its place", err)
	case none:
		return fmt.Errorf("%w; --insecure-no-password says that there is none: give one in its place", err)
	}
	return fmt.Errorf("%w; the password came from %s: give that of this repository, or name another one", err, a.passwordSource(s))
}

// lentStore is a store that is not closed while it is lent to somebody who would do so.
type lentStore struct {
	backend.Backend
	lent bool
}

// Close implements backend.Backend.
func (s *lentStore) Close() error {
	if s.lent {
		return nil
	}
	return s.Backend.Close()
}

// tryPassword asks for the password and opens the repository with it. The store stays the caller's when it fails.
func (a *app) tryPassword(ctx context.Context, be *lentStore, s *access, noPassword bool, use wiring.IndexUse, remote bool) (*repo.Repository, error) {
	password, err := a.password(ctx, s, "repository", false, noPassword)
	if err != nil {
		return nil, err
	}
	remote = remote && !a.ownFiles && a.global.cacheBytes >= 0
	base := ""
	if remote || use.Cached() {
		base = a.cacheBase()
	}
	return wiring.OpenRepository(ctx, be, wiring.Options{
		Password: password, KeyHint: s.keyHint,
		Compression: a.global.compression, PackBytes: int(a.global.packMiB) << 20, NoVerify: a.global.noExtraVerify,
		Index: use, PassOver: a.passOver, CacheBase: base, CacheFiles: remote, CacheBytes: a.global.cacheBytes,
		Log: a.print.Logger(),
	})
}

// oldCache is how long a cache is kept that nobody uses; restic keeps its own as long.
const oldCache = 30 * 24 * time.Hour

// cleanUpCaches does what --cleanup-cache asks for; that it fails is no reason to stop.
func (a *app) cleanUpCaches() {
	if !a.global.cleanupCache {
		return
	}
	base := a.cacheBase()
	if base == "" {
		return
	}
	removed, err := wiring.RemoveOldCaches(base, oldCache)
	if err != nil {
		a.print.Logger().Warn("some old caches stay", "error", err)
	}
	if removed > 0 {
		a.print.Line("removed %s below %s", progress.Count(removed, "old cache"), base)
	}
}

// cacheBase returns the directory below which caches are kept, "" for none.
func (a *app) cacheBase() string {
	switch {
	case a.global.noCache:
		return ""
	case a.global.cacheDir != "":
		return a.global.cacheDir
	}
	base, err := wiring.CacheBase(func(name string) string { value, _ := a.env(name); return value })
	if err != nil {
		a.print.Logger().Warn("there is no place for the cache; name one with --cache-dir", "error", err)
		return ""
	}
	return base
}
