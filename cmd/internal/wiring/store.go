package wiring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"vitrine/repo/backend"
	"vitrine/repo/backend/local"
	"vitrine/repo/backend/rclone"
	"vitrine/repo/backend/rest"
	"vitrine/repo/backend/retry"
	"vitrine/repo/backend/s3"
	"vitrine/repo/backend/sftp"
	"vitrine/repo/backend/transport"
)

// remotes are the stores that are not directories, by the scheme their locations begin with. This
// table is the only place that lists them.
var remotes = map[string]remote{
	"rclone": remoteOf(rclone.Parse, rclone.Open, rclone.Create, tuneRclone),
	"rest":   remoteOf(rest.Parse, rest.Open, rest.Create, tuneREST),
	"s3":     remoteOf(s3.Parse, s3.Open, s3.Create, tuneS3),
	"sftp":   remoteOf(sftp.Parse, sftp.Open, sftp.Create, tuneSFTP).connecting(),
}

// onTheLine are the schemes of stores whose connections carry the limits of bandwidth themselves (they
// use roundTripper or StoreOptions.limiter), so that no wrapper must.
var onTheLine = map[string]bool{"rest": true, "rclone": true, "s3": true}

// remote is one kind of store, without its type.
type remote struct {
	open, create func(ctx context.Context, location string, o StoreOptions) (backend.Backend, error)
	public       func(location string) (string, error) // the location without credentials
	check        func(options map[string]string) error // whether these extended options can be
}

// configOf is what the configuration C of a store can do. Apply takes the extended options of the
// store, their keys without the scheme ("connections" of rest.connections), and names the known ones
// when it does not know one.
type configOf[C any] interface {
	*C
	Apply(options map[string]string) error
	Public() string
}

// remoteOf makes an entry of the functions that every remote store has. tune gives the parsed
// configuration what comes neither from the location nor from -o: environment, transport, log.
func remoteOf[C any, P configOf[C]](
	parse func(location string) (C, error),
	open, create func(context.Context, C) (backend.Backend, error),
	tune func(context.Context, P, StoreOptions) error,
) remote {
	with := func(do func(context.Context, C) (backend.Backend, error)) func(context.Context, string, StoreOptions) (backend.Backend, error) {
		return func(ctx context.Context, location string, o StoreOptions) (backend.Backend, error) {
			c, err := parse(location)
			if err != nil {
				return nil, err
			}
			if err := P(&c).Apply(o.Extended[schemeOf(location)]); err != nil {
				return nil, err
			}
			if err := tune(ctx, &c, o); err != nil {
				return nil, err
			}
			return do(ctx, c)
		}
	}
	return remote{
		open: with(open), create: with(create),
		public: func(location string) (string, error) {
			c, err := parse(location)
			if err != nil {
				return "", err
			}
			return P(&c).Public(), nil
		},
		check: func(options map[string]string) error { return P(new(C)).Apply(options) },
	}
}

// connecting is for stores whose open makes a connection and not only their calls. When that breaks it
// is made again, as the first call of any other store is.
func (r remote) connecting() remote {
	open := r.open
	r.open = func(ctx context.Context, location string, o StoreOptions) (be backend.Backend, err error) {
		if _, err := r.public(location); err != nil {
			return nil, err // it stays
		}
		err = retry.Do(ctx, o.retries(), func() error {
			be, err = open(ctx, location, o)
			return err
		})
		return be, err
	}
	return r
}

func tuneREST(ctx context.Context, c *rest.Config, o StoreOptions) (err error) {
	if c.Username == "" && c.Password == "" {
		c.Username, c.Password = o.env("REST_USERNAME"), o.env("REST_PASSWORD")
	}
	c.Transport, err = o.roundTripper(ctx, c.Socket, c.Connections)
	return err
}

func tuneS3(ctx context.Context, c *s3.Config, o StoreOptions) (err error) {
	c.Transport, err = o.roundTripper(ctx, "", c.Connections)
	return err
}

func tuneSFTP(_ context.Context, c *sftp.Config, o StoreOptions) error {
	c.Log, c.SilentAfter = o.log(), o.Transport.StuckAfter
	if c.SilentAfter == 0 {
		c.SilentAfter = -1 // for ever, as the other stores take it
	}
	return nil
}

func tuneRclone(ctx context.Context, c *rclone.Config, o StoreOptions) error {
	c.Log, c.StuckAfter, c.WrapConn = o.log(), o.Transport.StuckAfter, o.limiter(ctx).Conn
	return nil
}

// roundTripper carries the requests of stores that are reached over HTTP, so many at a time; socket is the path of a
// unix socket, or "".
func (o StoreOptions) roundTripper(ctx context.Context, socket string, connections int) (http.RoundTripper, error) {
	to := o.Transport
	to.Socket, to.Connections = socket, connections
	to.WrapConn = o.limiter(ctx).Conn
	return transport.New(to)
}

// env returns the variable VITRINE_… or else RESTIC_… of that name.
func (o StoreOptions) env(name string) string {
	if o.Env == nil {
		return ""
	}
	if value := o.Env("VITRINE_" + name); value != "" {
		return value
	}
	return o.Env("RESTIC_" + name)
}

func (o StoreOptions) log() *slog.Logger {
	if o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Log
}

// scheme is how a location begins that is not on a local disk: "sftp:", "s3:", "rest:https:".
// A single letter is none, nor is a name with a slash before the colon. Capital letters do not make one a directory:
// REST:http://user:password@host/ would be shown as it is.
var scheme = regexp.MustCompile(`(?i)^([a-z][a-z0-9+.-]+):`)

// schemeOf returns the scheme of a location, and "local" when it is a directory.
func schemeOf(location string) string {
	if m := scheme.FindStringSubmatch(location); m != nil {
		return m[1]
	}
	return localScheme
}

// localScheme is that of directories.
const localScheme = "local"

// localDir returns the directory of a location whose scheme is local.
func localDir(location string) (string, error) {
	dir := strings.TrimPrefix(location, "local:")
	if dir == "" {
		return "", errors.New("the location of the repository is empty")
	}
	return dir, nil
}

// IsRemote tells whether a location is not a directory.
func IsRemote(location string) bool { return schemeOf(location) != localScheme }

// remoteAt returns the kind of store that a location names; ok is false when it is a directory.
func remoteAt(location string) (r remote, ok bool, err error) {
	name := schemeOf(location)
	if name == localScheme {
		return r, false, nil
	}
	if r, ok = remotes[name]; ok {
		return r, true, nil
	}
	shown := strip(location)
	if small := strings.ToLower(name); small == localScheme || remotes[small].open != nil {
		return r, false, fmt.Errorf("repository %s: write %s: in small letters, or ./%s if it is the name of a directory", shown, small, shown)
	}
	if small := strings.ToLower(name); small == "http" || small == "https" {
		return r, false, fmt.Errorf("repository %s: that is the address of a web server: write rest:%s for a REST server, s3:%s/bucket for a bucket",
			shown, shown, strings.TrimSuffix(shown, "/"))
	}
	return r, false, fmt.Errorf("repository %s: %s repositories are not yet supported, only directories and %s are; write ./%s if it is the name of one",
		shown, name, strings.Join(slices.Sorted(maps.Keys(remotes)), ", "), shown)
}

// openStore returns the store at a location as it is.
func openStore(ctx context.Context, location string, o StoreOptions) (backend.Backend, error) {
	r, far, err := remoteAt(location)
	if err != nil {
		return nil, err
	}
	if far {
		be, err := r.open(ctx, location, o)
		if errors.Is(err, backend.ErrNotExist) {
			return nil, noRepository(Shown(location), "the directory is not there")
		}
		return be, err
	}
	dir, err := localDir(location)
	if err != nil {
		return nil, err
	}
	disk, err := local.Open(dir)
	if errors.Is(err, backend.ErrNotExist) {
		return nil, noRepository("local:"+dir, "the directory is not there")
	} else if err != nil {
		return nil, err
	}
	return disk, nil
}

// createStore makes the directories of a repository at a location.
func createStore(ctx context.Context, location string, o StoreOptions) (backend.Backend, error) {
	r, far, err := remoteAt(location)
	if err != nil {
		return nil, err
	}
	if far {
		return r.create(ctx, location, o)
	}
	dir, err := localDir(location)
	if err != nil {
		return nil, err
	}
	disk, err := local.Create(dir)
	if err != nil {
		return nil, err // a nil *local.Backend in an interface would not be nil
	}
	return disk, nil
}

// DiskPath returns the absolute path of a repository on a local disk, and "" for any other.
func DiskPath(location string) (string, error) {
	if schemeOf(location) != localScheme {
		return "", nil
	}
	dir, err := localDir(location)
	if err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}

// PublicName is what everybody may see of a location, as in /proc/mounts: the absolute path of a
// directory, and of any other location what is left without user, password and parameters.
func PublicName(location string) string {
	if schemeOf(location) != localScheme {
		return Shown(location)
	}
	dir := strings.TrimPrefix(location, "local:")
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

// Shown is a location as it was given, but without credentials.
func Shown(location string) string {
	r, far, err := remoteAt(location)
	if err == nil && !far {
		return location
	}
	if err == nil {
		if public, err := r.public(location); err == nil {
			return strings.TrimSuffix(public, "/")
		}
	}
	return strip(location)
}

var (
	// credentials are what stands before the host of a URL; a password may hold anything, also a slash or a new line.
	credentials = regexp.MustCompile(`(?s)://.*@`)
	// unixCredentials are the same where an @ was taken for a special character.
	unixCredentials = regexp.MustCompile(`(?is)(http\+unix://).*%40`)
	// user is what stands before the host where a location is no URL: sftp:user:password@host:/path. The
	// last @ counts, as above.
	user = regexp.MustCompile(`(?is)^([a-z][a-z0-9+.-]+:).*@`)
	// parameters are what a remote of rclone has in its name.
	parameters = regexp.MustCompile(`(?is)^(rclone:[^,]*),.*`)
)

// strip takes away what may be secret in a location of a form that nobody knows.
func strip(location string) string {
	location = parameters.ReplaceAllString(location, "$1…")
	location = credentials.ReplaceAllString(location, "://")
	location = unixCredentials.ReplaceAllString(location, "$1")
	location = user.ReplaceAllString(location, "$1")
	location, _, _ = strings.Cut(location, "?")
	return location
}
