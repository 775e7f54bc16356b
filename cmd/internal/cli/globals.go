package cli

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/source"
)

// access says where one repository is and how to get at its password. There are two of
// them: the repository of the command, and the one that --from-… names.
type access struct {
	location        string
	locationFile    string
	password        string // from the environment only: a flag would show it to everybody
	passwordFile    string
	passwordCommand string
	keyHint         string
}

// globals are the flags that every command knows.
type globals struct {
	access
	json          bool
	quiet         bool
	verbose       int
	noLock        bool
	retryLock     time.Duration
	cacheDir      string
	noCache       bool
	cacheSize     string
	cacheBytes    int64 // what cacheSize says; 0: nothing, -1: that nothing is to be kept
	cleanupCache  bool
	compression   string
	packMiB       uint
	noPassword    bool
	options       []string
	store         wiring.StoreOptions // what options say
	limitUpload   int
	limitDownload int
	noExtraVerify bool
	caCerts       []string
	tlsClientCert string
	insecureTLS   bool
	stuckAfter    time.Duration
	fps           float64 // from the environment only
	noLines       bool    // it is 0 there
}

// register defines the global flags with restic's names, shorthands and defaults.
func (g *globals) register(f *pflag.FlagSet) {
	f.StringVarP(&g.location, "repo", "r", "", "the `repository`: a directory, sftp:user@host:path, s3:URL, rest:URL or rclone:remote:path ($VITRINE_REPOSITORY)")
	f.StringVar(&g.locationFile, "repository-file", "", "read the location of the repository from a `file` ($VITRINE_REPOSITORY_FILE)")
	f.StringVarP(&g.passwordFile, "password-file", "p", "", "read the password from a `file` ($VITRINE_PASSWORD_FILE)")
	f.StringVar(&g.passwordCommand, "password-command", "", "run a `command` that prints the password ($VITRINE_PASSWORD_COMMAND)")
	f.StringVar(&g.keyHint, "key-hint", "", "ID of the `key` to try first ($VITRINE_KEY_HINT)")
	f.BoolVar(&g.noPassword, "insecure-no-password", false, "use an empty password; the repository is then open to everybody who can read it")

	f.BoolVar(&g.json, "json", false, "print JSON for programs instead of text for people")
	f.BoolVarP(&g.quiet, "quiet", "q", false, "print results and errors only")
	f.CountVarP(&g.verbose, "verbose", "v", "print more; twice for each file (or --verbose=`n`)")

	f.BoolVar(&g.noLock, "no-lock", false, "do without a lock in the repository where nothing is written, as in one that is read-only: check, restore, forget, prune and rewrite with --dry-run, and copy in that of --from-repo; who writes always makes one")
	f.DurationVar(&g.retryLock, "retry-lock", 0, "wait for somebody else's lock for this `duration`, such as 5m or 2h (default: not at all)")

	f.StringVar(&g.cacheDir, "cache-dir", "", "keep caches below this `directory` ($VITRINE_CACHE_DIR; default: $XDG_CACHE_HOME/vitrine or ~/.cache/vitrine)")
	f.BoolVar(&g.noCache, "no-cache", false, "cache nothing on the local disk: keep the index in memory, and read files of the repository from the repository")
	f.StringVar(&g.cacheSize, "cache-size", "", "keep files of a repository on the network in at most this `size` of the cache directory, suffixes k, m, g; 0 keeps none ($VITRINE_CACHE_SIZE; default: a tenth of the free disk, at most 5g)")
	f.BoolVar(&g.cleanupCache, "cleanup-cache", false, "remove caches of repositories not used for a month")

	f.StringVar(&g.compression, "compression", "auto", "compression `mode` of new data: auto, off, fastest, better or max ($VITRINE_COMPRESSION)")
	f.UintVar(&g.packMiB, "pack-size", 0, "aim at packs of so many `MiB`, 4 to 128 ($VITRINE_PACK_SIZE; default: 16)")
	f.BoolVar(&g.noExtraVerify, "no-extra-verify", false, "store new data without opening it once more to see that it is sound")

	f.StringArrayVarP(&g.options, "option", "o", nil, "set an extended option, as `key=value` (repeatable): slow.latency=50ms and slow.bandwidth=100M make the store as slow as one far away; sftp.…, s3.…, rest.… and rclone.… are for these repositories")
	f.IntVar(&g.limitUpload, "limit-upload", 0, "limit uploads to this many `KiB/s`")
	f.IntVar(&g.limitDownload, "limit-download", 0, "limit downloads to this many `KiB/s`")
	f.StringSliceVar(&g.caCerts, "cacert", nil, "`file` with root certificates, for repositories on the network; several with commas between them, or repeatable ($VITRINE_CACERT)")
	f.StringVar(&g.tlsClientCert, "tls-client-cert", "", "`file` with the client's certificate and key, for repositories on the network ($VITRINE_TLS_CLIENT_CERT)")
	f.BoolVar(&g.insecureTLS, "insecure-tls", false, "do not verify TLS certificates of repositories on the network")
	f.DurationVar(&g.stuckAfter, "stuck-request-timeout", 5*time.Minute, "make a request to a repository on the network anew when it has not moved for this `duration`; 0 waits for ever")
}

// registerFrom defines the flags of the second repository.
func (s *access) registerFrom(f *pflag.FlagSet, noPassword *bool, purpose string) {
	f.StringVar(&s.location, "from-repo", "", "the `repository` "+purpose+" ($VITRINE_FROM_REPOSITORY)")
	f.StringVar(&s.locationFile, "from-repository-file", "", "read the location of the --from-repo repository from a `file` ($VITRINE_FROM_REPOSITORY_FILE)")
	f.StringVar(&s.passwordFile, "from-password-file", "", "read the password of the --from-repo repository from a `file` ($VITRINE_FROM_PASSWORD_FILE)")
	f.StringVar(&s.passwordCommand, "from-password-command", "", "run a `command` that prints the password of the --from-repo repository ($VITRINE_FROM_PASSWORD_COMMAND)")
	f.StringVar(&s.keyHint, "from-key-hint", "", "ID of the `key` of the --from-repo repository to try first ($VITRINE_FROM_KEY_HINT)")
	f.BoolVar(noPassword, "from-insecure-no-password", false, "the password of the --from-repo repository is empty")
}

// check refuses what contradicts itself and what this program cannot do. said names what set a flag.
func (g *globals) check(said func(flag string) string) error {
	if g.quiet && g.verbose > 0 {
		return fmt.Errorf("--quiet and --verbose cannot both be given")
	}
	for _, limit := range []struct {
		flag     string
		negative bool
		accepted string
	}{
		{"limit-upload", g.limitUpload < 0, "write a number of KiB/s, or 0 for no limit"},
		{"limit-download", g.limitDownload < 0, "write a number of KiB/s, or 0 for no limit"},
		{"retry-lock", g.retryLock < 0, "write how long to wait, such as 5m, or 0 for not at all"},
		{"stuck-request-timeout", g.stuckAfter < 0, "write how long to wait, such as 5m, or 0 for ever"},
	} {
		if limit.negative {
			return fmt.Errorf("%s is negative: %s", said(limit.flag), limit.accepted)
		}
	}
	if mib := g.packMiB; mib != 0 && (mib < repo.MinPackBytes>>20 || mib > repo.MaxPackBytes>>20) {
		return fmt.Errorf("%s %d: choose %d to %d (MiB)", said("pack-size"), mib, repo.MinPackBytes>>20, repo.MaxPackBytes>>20)
	}
	var err error
	if g.store, err = wiring.ParseStoreOptions(g.options); err != nil {
		return err
	}
	if g.cacheSize != "" {
		if g.cacheBytes, err = source.ParseSize(g.cacheSize); err != nil {
			return fmt.Errorf("%s: %w", said("cache-size"), err)
		}
		if g.cacheBytes == 0 {
			g.cacheBytes = -1
		}
	}
	switch g.compression {
	case "auto", "off", "fastest", "better", "max":
	default:
		return fmt.Errorf("%s %q: choose auto, off, fastest, better or max", said("compression"), g.compression)
	}
	return nil
}
