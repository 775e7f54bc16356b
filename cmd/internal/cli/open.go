package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/backend"
)

// where returns the location of a repository, from the flag or from the file it names.
func (s *access) where(flag string) (string, error) {
	switch {
	case s.location != "" && s.locationFile != "":
		return "", fmt.Errorf("--%s and --%s-file exclude each other", flag, flagFile(flag))
	case s.location != "":
		return s.location, nil
	case s.locationFile == "":
		return "", fmt.Errorf("no repository is named: use --%s, --%s-file or $VITRINE_REPOSITORY", flag, flagFile(flag))
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
	location, err := s.where(flag)
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
		CACertFile: a.global.caCert, ClientCertFile: a.global.tlsClientCert, Insecure: a.global.insecureTLS,
		StuckAfter: a.global.stuckAfter,
	}
	o.UploadBytesPerSecond = int64(a.global.limitUpload) << 10
	o.DownloadBytesPerSecond = int64(a.global.limitDownload) << 10
	return o
}

func (a *app) openWithPassword(ctx context.Context, be backend.Backend, s *access, noPassword bool, use wiring.IndexUse, remote bool) (*repo.Repository, error) {
	password, err := a.password(ctx, s, "repository", false, noPassword)
	if err != nil {
		return nil, errors.Join(err, be.Close())
	}
	remote = remote && !a.ownFiles && a.global.cacheBytes >= 0
	base := ""
	if remote || use == wiring.CachedIndex {
		base = a.cacheBase()
	}
	return wiring.OpenRepository(ctx, be, wiring.Options{
		Password: password, KeyHint: s.keyHint,
		Compression: a.global.compression, PackBytes: int(a.global.packMiB) << 20, NoVerify: a.global.noExtraVerify,
		Index: use, CacheBase: base, CacheFiles: remote, CacheBytes: a.global.cacheBytes,
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
		a.print.Line("removed %d old caches below %s", removed, base)
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
