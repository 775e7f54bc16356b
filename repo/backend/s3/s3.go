// Package s3 stores a repository in a bucket of an S3 server (AWS, MinIO, Ceph, Google, …), in the
// layout restic uses: the paths of backend.File.Path below the prefix.
//
// # How a file is published
//
// Save is one PUT of the whole content, whatever its size, so an object appears whole or not at
// all; no part of an upload is ever left behind. The signature covers the content's SHA-256, which is the
// name of the file and which the server compares with what arrived. Its MD5 costs as much processor
// time as three SHA-256 and goes along only where there is no such signature (anonymous, or Google, which does
// not promise to compare), or from the first time on that the server asks for it, as AWS does for
// buckets with object lock. Config is put with If-None-Match: * (but for backend.WithReplace), so that of two inits one wins; servers
// that do not know the condition are asked before whether there is one.
//
// # Reads
//
// ReadAt is one GET of a range. The Content-Range of the answer must be the range asked for and
// the body must have its length, so a server or proxy that ignores ranges, or a connection that is
// cut, is an error and never a short read. A pack that the server says is not there, and lists, is an error that may
// pass (contradict.go).
//
// # Removal
//
// The DELETE of S3 succeeds whether or not the object is there. Who removes a lock or a snapshot must learn
// that it was gone already, so Remove asks first. That is a second round trip, of a few bytes;
// between the two somebody else may remove the file, and then both succeed, which harms nobody.
//
// # Storage class
//
// It applies to packs only. All other files are small and many live for minutes; the cheap classes bill
// them as 128 KiB for 30 days. Classes that must be thawed first are refused: what is in a pack,
// files or directories, is not known here, and without directories nothing works.
//
// # Errors
//
// Each carries the server's code and words. Which class a code has is the table in errors.go; what
// is of no class may pass (SlowDown, 5xx, the network). The client library makes one attempt, so
// that whoever retries sees every failure.
package s3

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"vitrine/repo/backend"
)

// Backend is a backend.Backend in a bucket.
type Backend struct {
	cfg    Config
	client minio.Core
	slots  backend.Slots
	opened bool // by Open: there must be a bucket

	wantsMD5 atomic.Bool // whether what is put carries its MD5, too

	contradictions contradictions
}

var _ backend.Backend = (*Backend)(nil)

// Open prepares access to the repository in the bucket. It looks for credentials and asks the
// server for nothing else, so a wrong bucket shows at the first call.
func Open(ctx context.Context, c Config) (backend.Backend, error) {
	b, err := open(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", c.Public(), explain(err))
	}
	b.opened = true
	return b, nil
}

// Create is Open for a new repository: it makes the bucket when there is none. A config object at
// the place is an error of class backend.ErrExist.
func Create(ctx context.Context, c Config) (backend.Backend, error) {
	b, err := open(ctx, c)
	if err == nil {
		if err = b.prepare(ctx); err == nil {
			return b, nil
		}
		err = errors.Join(err, b.Close())
	}
	return nil, fmt.Errorf("create %s: %w", c.Public(), err)
}

func open(ctx context.Context, c Config) (*Backend, error) {
	if c.Connections <= 0 {
		c.Connections = DefaultConnections
	}
	creds, err := newCredentials(ctx, c)
	if err != nil {
		return nil, err
	}
	if c.Transport == nil {
		c.Transport = newTransport(c.Connections)
	}
	b := &Backend{
		cfg: c, slots: make(backend.Slots, c.Connections),
		contradictions: contradictions{now: time.Now, files: map[string]contradiction{}},
	}
	b.client.Client, err = minio.New(c.Endpoint, &minio.Options{
		Creds: creds, Secure: !c.Insecure, Region: c.region(), Transport: c.Transport,
		BucketLookup: lookups[c.BucketLookup], MaxRetries: max(1, c.Retries),
	})
	if err != nil {
		return nil, err
	}
	b.client.SetAppInfo("vitrine", "1")
	b.wantsMD5.Store(c.Anonymous || s3utils.IsGoogleEndpoint(*b.client.EndpointURL()))
	return b, nil
}

// newTransport returns one that keeps as many connections as it may use.
func newTransport(connections int) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = connections
	t.ResponseHeaderTimeout = time.Minute
	t.DisableCompression = true // what is stored is encrypted, and a decompressed body has no length
	return t
}

// prepare makes sure that there is a bucket and that no repository is in it.
func (b *Backend) prepare(ctx context.Context) error {
	exists, err := b.client.BucketExists(ctx, b.cfg.Bucket)
	switch err = b.explain(err); {
	case errors.Is(err, backend.ErrDenied):
		// A key may be good for the objects and yet not for the bucket.
	case err != nil:
		return fmt.Errorf("look for the bucket: %w", err)
	case !exists:
		err := b.client.MakeBucket(ctx, b.cfg.Bucket, minio.MakeBucketOptions{Region: b.cfg.region()})
		if err != nil && minio.ToErrorResponse(err).Code != minio.BucketAlreadyOwnedByYou {
			return fmt.Errorf("make the bucket: %w", b.explain(err))
		}
	}
	_, err = b.Stat(ctx, backend.File{Kind: backend.Config})
	if err == nil {
		return fmt.Errorf("there is a config object in it: %w", backend.ErrExist)
	}
	if errors.Is(err, backend.ErrNotExist) {
		return nil
	}
	return err
}

// begin is what every call on a file starts with: it waits for a slot. The caller calls end.
func (b *Backend) begin(ctx context.Context, f backend.File) (end func(), err error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	return b.slots.Take(ctx)
}

// Save implements backend.Backend.
func (b *Backend) Save(ctx context.Context, f backend.File, content []byte) error {
	err := b.save(ctx, f, content)
	if err != nil {
		return fmt.Errorf("save %v: %w", f, b.explain(err))
	}
	return nil
}

func (b *Backend) save(ctx context.Context, f backend.File, content []byte) error {
	end, err := b.begin(ctx, f)
	if err != nil {
		return err
	}
	defer end()
	opts := minio.PutObjectOptions{ContentType: "application/octet-stream", DisableContentSha256: true}
	if f.Kind == backend.Pack {
		opts.StorageClass = b.cfg.StorageClass
	}
	if backend.Replaces(ctx, f) {
		return b.put(ctx, f, content, opts)
	}
	switch _, err := b.stat(ctx, f); {
	case err == nil:
		return backend.ErrExist
	case !errors.Is(b.explain(err), backend.ErrNotExist):
		return err
	}
	conditional := opts
	conditional.SetMatchETagExcept("*")
	err = b.put(ctx, f, content, conditional)
	switch minio.ToErrorResponse(err).Code {
	case minio.PreconditionFailed:
		return b.isOurs(ctx, f, content, err)
	case minio.NotImplemented, minio.InvalidArgument:
		return b.put(ctx, f, content, opts) // Google and some older servers refuse the condition
	}
	return err
}

// isOurs is what a save comes to that was refused since the file is there: with -o s3.retries the library may have sent
// it twice, and then what is there is ours. Of two inits no config has the same bytes.
func (b *Backend) isOurs(ctx context.Context, f backend.File, content []byte, refused error) error {
	stored, err := b.fetch(ctx, f, int64(len(content)))
	switch {
	case err == nil && bytes.Equal(stored, content):
		return nil
	case err != nil && !backend.IsPermanent(b.explain(err)):
		return err
	}
	return reword(backend.ErrExist, "it was made meanwhile", refused)
}

// put sends the content with its checksums. Its SHA-256 is the file's name, and need not be computed but for
// config; where a server says that it is not, whatever is being saved is what it is.
func (b *Backend) put(ctx context.Context, f backend.File, content []byte, opts minio.PutObjectOptions) error {
	sum := f.Name
	if f.Kind == backend.Config {
		sum = hexSHA256(content)
	}
	err := b.putWith(ctx, f, content, sum, opts)
	if minio.ToErrorResponse(err).Code == "XAmzContentSHA256Mismatch" {
		if real := hexSHA256(content); real != sum {
			return b.putWith(ctx, f, content, real, opts)
		}
	}
	return err
}

func hexSHA256(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// putWith is put with a SHA-256. It adds the MD5 where it is wanted.
func (b *Backend) putWith(ctx context.Context, f backend.File, content []byte, sum string, opts minio.PutObjectOptions) error {
	send := func(md5Base64 string) error {
		upload := backend.NewUpload(content)
		_, err := b.client.PutObject(ctx, b.cfg.Bucket, b.key(f), upload.Body(), int64(len(content)), md5Base64, sum, opts)
		return upload.End(err)
	}
	if !b.wantsMD5.Load() {
		err := send("")
		if !asksForMD5(err) {
			return err
		}
		b.wantsMD5.Store(true)
	}
	sumMD5 := md5.Sum(content)
	return send(base64.StdEncoding.EncodeToString(sumMD5[:]))
}

// asksForMD5 tells whether a server refuses a PUT because it has no Content-MD5, as AWS does where
// object lock is on.
func asksForMD5(err error) bool {
	r := minio.ToErrorResponse(err)
	return r.StatusCode == http.StatusBadRequest && (strings.Contains(strings.ToUpper(r.Code), "MD5") || strings.Contains(strings.ToUpper(r.Message), "CONTENT-MD5"))
}

// ReadAt implements backend.Backend.
func (b *Backend) ReadAt(ctx context.Context, f backend.File, p []byte, offsetBytes int64) error {
	err := b.readAt(ctx, f, p, offsetBytes)
	if err != nil {
		return fmt.Errorf("read %v at %d+%d: %w", f, offsetBytes, len(p), b.explain(err))
	}
	return nil
}

func (b *Backend) readAt(ctx context.Context, f backend.File, p []byte, offsetBytes int64) error {
	end, err := b.begin(ctx, f)
	if err != nil {
		return err
	}
	defer end()
	last := offsetBytes + int64(len(p)) - 1
	if offsetBytes < 0 || last < -1 {
		return fmt.Errorf("no file has such a range: %w", backend.ErrShort)
	}
	if len(p) == 0 { // HTTP knows no empty range
		info, err := b.stat(ctx, f)
		if err == nil && offsetBytes > info.SizeBytes {
			err = fmt.Errorf("it has %d bytes: %w", info.SizeBytes, backend.ErrShort)
		}
		return err
	}
	var opts minio.GetObjectOptions
	if err := opts.SetRange(offsetBytes, last); err != nil {
		return err
	}
	body, info, header, err := b.client.GetObject(ctx, b.cfg.Bucket, b.key(f), opts)
	if err = b.believe(ctx, f, err); err != nil {
		return err
	}
	defer body.Close()
	if err := isRange(header.Get("Content-Range"), offsetBytes, last, info.Size); err != nil {
		return err
	}
	return backend.ReadBody(body, p)
}

// isRange tells whether an answer is the range first to last, from its Content-Range and the
// length of its body.
func isRange(contentRange string, first, last, lengthBytes int64) error {
	if contentRange == "" {
		if first == 0 && lengthBytes == last+1 {
			return nil // the whole file, as was asked for
		}
		return errors.New("the server or a proxy before it does not do ranges")
	}
	var gotFirst, gotLast, total int64
	if _, err := fmt.Sscanf(contentRange, "bytes %d-%d/%d", &gotFirst, &gotLast, &total); err != nil {
		return fmt.Errorf("the server answers with the range %.100q", contentRange)
	}
	if last >= total {
		return fmt.Errorf("it has %d bytes: %w", total, backend.ErrShort)
	}
	if gotFirst != first || gotLast != last {
		return fmt.Errorf("the server answers with bytes %d to %d", gotFirst, gotLast)
	}
	return nil
}

// ReadAll implements backend.Backend.
func (b *Backend) ReadAll(ctx context.Context, f backend.File, maxBytes int64) ([]byte, error) {
	content, err := b.readAll(ctx, f, maxBytes)
	if err != nil {
		return nil, fmt.Errorf("read %v: %w", f, b.explain(err))
	}
	return content, nil
}

func (b *Backend) readAll(ctx context.Context, f backend.File, maxBytes int64) ([]byte, error) {
	end, err := b.begin(ctx, f)
	if err != nil {
		return nil, err
	}
	defer end()
	return b.fetch(ctx, f, maxBytes)
}

// fetch reads a whole file; its caller has a slot.
func (b *Backend) fetch(ctx context.Context, f backend.File, maxBytes int64) ([]byte, error) {
	body, info, _, err := b.client.GetObject(ctx, b.cfg.Bucket, b.key(f), minio.GetObjectOptions{})
	if err = b.believe(ctx, f, err); err != nil {
		return nil, err
	}
	defer body.Close()
	size := info.Size
	if size < 0 { // a proxy sends it in pieces and does not say how much comes
		stat, err := b.stat(ctx, f)
		if err != nil {
			return nil, err
		}
		size = stat.SizeBytes
	}
	if size > maxBytes {
		return nil, fmt.Errorf("%d bytes, at most %d allowed: %w", size, maxBytes, backend.ErrTooBig)
	}
	content := make([]byte, size)
	return content, backend.ReadBody(body, content)
}

// Stat implements backend.Backend. Of a config that is not there it finds out whether there is a bucket.
func (b *Backend) Stat(ctx context.Context, f backend.File) (backend.Info, error) {
	end, err := b.begin(ctx, f)
	var info backend.Info
	if err == nil {
		defer end()
		info, err = b.stat(ctx, f)
	}
	if err == nil {
		return info, nil
	}
	err = b.explain(err)
	if f.Kind == backend.Config && errors.Is(err, backend.ErrNotExist) {
		// The answer to a HEAD has no body that would tell. Whoever may not ask for the bucket is not told.
		if exists, other := b.client.BucketExists(ctx, b.cfg.Bucket); other == nil && !exists {
			err = fmt.Errorf("bucket %s: %w", b.cfg.Bucket, ErrNoBucket)
		}
	}
	return backend.Info{}, fmt.Errorf("stat %v: %w", f, err)
}

func (b *Backend) stat(ctx context.Context, f backend.File) (backend.Info, error) {
	info, err := b.client.StatObject(ctx, b.cfg.Bucket, b.key(f), minio.StatObjectOptions{})
	if doubtful(minio.ToErrorResponse(err)) {
		err = b.missing(ctx, f)
	}
	if err == nil && info.Size < 0 {
		err = errors.New("the server does not tell the size")
	}
	if err != nil {
		return backend.Info{}, err
	}
	return backend.Info{Name: f.Name, SizeBytes: info.Size}, nil
}

// missing returns what a GET of a file says that is missing to a HEAD. The answer to a HEAD has no body, and on servers that
// give requests no ID, as Google's and Cloudflare's, it looks like that of any proxy; a GET shows who answers.
func (b *Backend) missing(ctx context.Context, f backend.File) error {
	var first minio.GetObjectOptions
	if err := first.SetRange(0, 0); err != nil {
		return err
	}
	body, _, _, err := b.client.GetObject(ctx, b.cfg.Bucket, b.key(f), first)
	if err == nil {
		body.Close()
	}
	if err == nil || errors.Is(explain(err), backend.ErrShort) {
		return errors.New("the server answers 404 to a question for the size, and then has the object")
	}
	return err
}

// List implements backend.Backend. Packs are one listing of everything below data/, a request for
// each thousand; one that failed can go on (backend.WithAfter). It takes no slot, because fn may call the backend.
func (b *Backend) List(ctx context.Context, kind backend.Kind, fn func(backend.Info) error) error {
	var fromCaller error // returned as it is
	wrapped := func(info backend.Info) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		fromCaller = fn(info)
		return fromCaller
	}
	err := b.list(ctx, kind, wrapped)
	if err == nil {
		err = ctx.Err()
	}
	if fromCaller == nil && err != nil {
		if err = b.explain(err); b.opened && errors.Is(err, ErrNoBucket) {
			// Without a class: a repository was opened in it, so that nothing about its files can be told.
			err = fmt.Errorf("the server does not know the bucket for the moment, or it was removed: %v", err)
		}
		return fmt.Errorf("list %v files: %w", kind, err)
	}
	return fromCaller
}

func (b *Backend) list(ctx context.Context, kind backend.Kind, fn func(backend.Info) error) error {
	if kind == backend.Config {
		info, err := b.Stat(ctx, backend.File{Kind: backend.Config})
		if errors.Is(err, backend.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return fn(info)
	}
	after := ""
	if name := backend.After(ctx); name != "" {
		after = b.key(backend.File{Kind: kind, Name: name}) // keys come in their order, which is that of names
	}
	noOwner := false
	objects := b.client.ListObjectsIter(ctx, b.cfg.Bucket, minio.ListObjectsOptions{
		Prefix: path.Join(b.cfg.Prefix, kind.Dir()) + "/", Recursive: kind == backend.Pack,
		UseV1: b.cfg.ListObjectsV1, FetchOwner: &noOwner, StartAfter: after,
	})
	for object := range objects {
		if object.Err != nil {
			return object.Err
		}
		f := backend.File{Kind: kind, Name: object.Key[strings.LastIndexByte(object.Key, '/')+1:]}
		if f.Check() != nil || object.Key != b.key(f) {
			continue // nothing of ours, or a pack in the wrong place
		}
		if object.Size < 0 {
			return fmt.Errorf("the server gives %s a size of %d bytes", object.Key, object.Size)
		}
		if err := fn(backend.Info{Name: f.Name, SizeBytes: object.Size}); err != nil {
			return err
		}
	}
	return nil
}

// Remove implements backend.Backend.
func (b *Backend) Remove(ctx context.Context, f backend.File) error {
	if err := b.remove(ctx, f); err != nil {
		return fmt.Errorf("remove %v: %w", f, b.explain(err))
	}
	return nil
}

func (b *Backend) remove(ctx context.Context, f backend.File) error {
	end, err := b.begin(ctx, f)
	if err != nil {
		return err
	}
	defer end()
	_, statErr := b.stat(ctx, f)
	missing := errors.Is(b.explain(statErr), backend.ErrNotExist)
	if statErr != nil && !missing {
		return statErr
	}
	err = b.client.RemoveObject(ctx, b.cfg.Bucket, b.key(f), minio.RemoveObjectOptions{})
	if missing && !errors.Is(b.explain(err), backend.ErrDenied) {
		return statErr
	}
	return err
}

// Location implements backend.Backend.
func (b *Backend) Location() string { return b.cfg.Public() }

// Close implements backend.Backend. It closes the connections that the transport keeps for later.
func (b *Backend) Close() error {
	(&http.Client{Transport: b.cfg.Transport}).CloseIdleConnections()
	return nil
}

func (b *Backend) key(f backend.File) string { return path.Join(b.cfg.Prefix, f.Path()) }
