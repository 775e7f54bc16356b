package s3

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/linetest"
	"vitrine/repo/backend/retry"
	"vitrine/repo/backend/s3/miniotest"
)

// config returns that of a place on the server, which must be empty.
func config(t *testing.T, s *miniotest.Server, bucketAndPrefix string) Config {
	t.Helper()
	c, err := Parse(s.Location(bucketAndPrefix))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func create(t *testing.T, c Config) backend.Backend {
	t.Helper()
	be, err := Create(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { be.Close() })
	return be
}

func TestConformance(t *testing.T) {
	server := miniotest.Start(t)
	miniotest.Setenv(t)
	var places atomic.Int64
	for name, option := range map[string]map[string]string{
		"defaults": nil,
		"list v1":  {"list-objects-v1": "true", "region": "us-east-1"},
		"one":      {"connections": "1"},
	} {
		t.Run(name, func(t *testing.T) {
			backendtest.Run(t, func(t *testing.T) backend.Backend {
				c := config(t, server, fmt.Sprintf("conformance/deep/%d", places.Add(1)))
				if err := c.Apply(option); err != nil {
					t.Fatal(err)
				}
				return create(t, c)
			})
		})
	}
}

// TestBuckets makes a repository at the root of a bucket that is not there yet, and a second one
// below it that the first does not see.
func TestBuckets(t *testing.T) {
	server := miniotest.Start(t)
	miniotest.Setenv(t)
	ctx := t.Context()
	c := config(t, server, "new-bucket")
	configFile := backend.File{Kind: backend.Config}
	index := backendtest.FileOf(backend.Index, []byte("x"))
	for _, region := range []string{"", "us-east-1"} { // with one the client need not ask for it, and learns nothing of the bucket
		other := c
		other.Region = region
		missing, err := Open(ctx, other)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := missing.Stat(ctx, configFile); !errors.Is(err, ErrNoBucket) || !errors.Is(err, backend.ErrNotExist) {
			t.Errorf("Stat without a bucket, region %q: %v", region, err)
		}
		if err := missing.Save(ctx, index, []byte("x")); !errors.Is(err, backend.ErrNotExist) || !backend.IsPermanent(err) {
			t.Errorf("Save without a bucket, region %q: %v", region, err)
		}
	}
	root, below := create(t, c), create(t, config(t, server, "new-bucket/sub"))
	for _, be := range []backend.Backend{root, below} {
		if err := be.Save(ctx, configFile, []byte(be.Location())); err != nil {
			t.Fatal(err)
		}
	}
	if err := below.Save(ctx, index, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Stat(ctx, index); !errors.Is(err, backend.ErrNotExist) {
		t.Errorf("the repository at the root sees the index of the other: %v", err)
	}
	for _, be := range []backend.Backend{root, below} {
		if got, err := be.ReadAll(ctx, configFile, 1000); err != nil || string(got) != be.Location() {
			t.Errorf("%s: config %q, %v", be.Location(), got, err)
		}
	}
	if _, err := Create(ctx, c); !errors.Is(err, backend.ErrExist) {
		t.Errorf("Create over a repository: %v", err)
	}
	if _, err := create(t, config(t, server, "new-bucket/other")).Stat(ctx, configFile); !errors.Is(err, backend.ErrNotExist) || errors.Is(err, ErrNoBucket) {
		t.Errorf("Stat without a config: %v", err)
	}
	if got, want := below.Location(), server.Location("new-bucket/sub"); got != want {
		t.Errorf("location %q, want %q", got, want)
	}
}

// TestNobodyThere: the error names the address and not the questions that the client asks of its own.
func TestNobodyThere(t *testing.T) {
	miniotest.Setenv(t)
	c, err := Parse("s3:http://127.0.0.1:1/bucket")
	if err != nil {
		t.Fatal(err)
	}
	be, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = be.Stat(t.Context(), backend.File{Kind: backend.Config})
	if err == nil || backend.IsPermanent(err) || err.Error() != "stat config: dial tcp 127.0.0.1:1: connect: connection refused" {
		t.Errorf("Stat: %v", err)
	}
}

// TestForeignObjects puts packs into a wrong place and other things beside files.
func TestForeignObjects(t *testing.T) {
	server := miniotest.Start(t)
	miniotest.Setenv(t)
	ctx := t.Context()
	content := []byte("a pack")
	f := backendtest.FileOf(backend.Pack, content)
	be := create(t, config(t, server, "foreign/repo"))
	other := create(t, config(t, server, "foreign/repo/data/ff")) // its data/ lies two levels too deep
	for _, b := range []backend.Backend{be, other} {
		if err := b.Save(ctx, f, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := create(t, config(t, server, "foreign/repo/index")).Save(ctx, backend.File{Kind: backend.Config}, nil); err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[backend.Kind]int{backend.Pack: 1, backend.Index: 0} {
		n := 0
		if err := be.List(ctx, kind, func(backend.Info) error { n++; return nil }); err != nil || n != want {
			t.Errorf("%v files: %d, %v; want %d", kind, n, err, want)
		}
	}
}

func TestManyFiles(t *testing.T) {
	server := miniotest.Start(t)
	miniotest.Setenv(t)
	counter := &countingTransport{next: newTransport(8)}
	c := config(t, server, "many/repo")
	c.Transport = counter
	be := create(t, c)
	const files = 1100 // more than a page
	want := map[string]bool{}
	for i := range files {
		content := fmt.Appendf(nil, "file %d", i)
		f := backendtest.FileOf(backend.Pack, content)
		if err := be.Save(t.Context(), f, content); err != nil {
			t.Fatal(err)
		}
		want[f.Name] = true
	}
	before := counter.requests.Load()
	err := be.List(t.Context(), backend.Pack, func(info backend.Info) error {
		if !want[info.Name] {
			t.Errorf("%s is listed twice or was never saved", info.Name)
		}
		delete(want, info.Name)
		return nil
	})
	if err != nil || len(want) != 0 {
		t.Errorf("%d files are missing: %v", len(want), err)
	}
	if n := counter.requests.Load() - before; n != 2 {
		t.Errorf("the listing took %d requests, want 2", n)
	}
}

func TestDenied(t *testing.T) {
	server := miniotest.Start(t)
	miniotest.Setenv(t)
	create(t, config(t, server, "denied/repo"))
	const wrong = "geheim-und-falsch"
	index := backendtest.FileOf(backend.Index, []byte("x"))
	for name, c := range map[string]struct {
		id, secret, word string
		anonymous        bool
	}{
		"unknown key":  {id: wrong, secret: miniotest.Secret, word: "InvalidAccessKeyId"},
		"wrong secret": {id: miniotest.Key, secret: wrong, word: "SignatureDoesNotMatch"},
		"anonymous":    {id: miniotest.Key, secret: miniotest.Secret, anonymous: true, word: "AccessDenied"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_ACCESS_KEY_ID", c.id)
			t.Setenv("AWS_SECRET_ACCESS_KEY", c.secret)
			config := config(t, server, "denied/repo")
			config.Anonymous = c.anonymous
			be, err := Open(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			defer be.Close()
			_, readAll := be.ReadAll(t.Context(), index, 100)
			_, stat := be.Stat(t.Context(), index)
			_, create := Create(t.Context(), config)
			for op, err := range map[string]error{
				"save": be.Save(t.Context(), index, []byte("x")), "read": readAll, "stat": stat, "create": create,
				"remove": be.Remove(t.Context(), index), "list": be.List(t.Context(), backend.Index, nil),
			} {
				if !errors.Is(err, backend.ErrDenied) || !backend.IsPermanent(err) || !strings.Contains(err.Error(), c.word) {
					t.Errorf("%s: %v, want %s", op, err, c.word)
				}
				if strings.Contains(fmt.Sprintf("%v %+v", err, err), wrong) {
					t.Errorf("%s: credentials are in the message: %v", op, err)
				}
			}
		})
	}
}

func TestRegion(t *testing.T) {
	server := miniotest.Start(t, "MINIO_SITE_REGION=eu-test-1")
	miniotest.Setenv(t)
	create(t, config(t, server, "region/repo")) // asks the server
	content := []byte("x")
	index := backendtest.FileOf(backend.Index, content)
	for region, works := range map[string]bool{"": true, "eu-test-1": true, "us-west-2": false} {
		t.Setenv("AWS_DEFAULT_REGION", "us-west-2")
		c := config(t, server, "region/repo")
		c.Region = region
		if region == "" {
			t.Setenv("AWS_DEFAULT_REGION", "")
			t.Setenv("AWS_REGION", "eu-test-1")
		}
		be, err := Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		err = be.Save(t.Context(), index, content)
		if works && err != nil {
			t.Errorf("region %q: %v", region, err)
		}
		if !works && (!errors.Is(err, backend.ErrDenied) || !strings.Contains(err.Error(), "-o s3.region")) {
			t.Errorf("region %q: error %v, want ErrDenied and the option", region, err)
		}
		be.Close()
	}
}

// Keys in the environment are enough: nobody asks the metadata address, which may not answer for
// seconds.
func TestCredentials(t *testing.T) {
	miniotest.Setenv(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "")
	asked := &countingTransport{}
	role := roleClient()
	role.Transport = asked
	value, err := chain(role).RetrieveWithCredContext(nil)
	if err != nil || value.AccessKeyID != miniotest.Key || asked.requests.Load() != 0 {
		t.Errorf("key %q, %v, the role was asked for %d times", value.AccessKeyID, err, asked.requests.Load())
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	if value, _ := chain(role).RetrieveWithCredContext(nil); value.AccessKeyID != "" || asked.requests.Load() == 0 {
		t.Errorf("without keys: key %q, the role was asked for %d times", value.AccessKeyID, asked.requests.Load())
	}

	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	c := Config{Endpoint: "127.0.0.1:1", Insecure: true, Bucket: "bucket"}
	wantOpenError(t, c, "there are no credentials")
	t.Setenv("AWS_PROFILE", "nightly")
	wantOpenError(t, c, `"nightly"`)
	t.Setenv("AWS_ACCESS_KEY_ID", "geheim")
	wantOpenError(t, c, "AWS_SECRET_ACCESS_KEY is not")
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "geheim")
	wantOpenError(t, c, "AWS_ACCESS_KEY_ID is not")
}

func wantOpenError(t *testing.T, c Config, word string) {
	t.Helper()
	start := time.Now()
	_, err := Open(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), word) || strings.Contains(err.Error(), "geheim") {
		t.Errorf("error %v, want %q and no secret in it", err, word)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("it took %v to find no credentials", d)
	}
}

func TestSharedCredentialsAndRole(t *testing.T) {
	server := miniotest.Start(t)
	miniotest.Setenv(t)
	create(t, config(t, server, "role/repo"))
	writeProfile(t, "nightly", miniotest.Key, miniotest.Secret)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_PROFILE", "nightly")
	index := backendtest.FileOf(backend.Index, []byte("x"))
	save := func() error {
		be, err := Open(t.Context(), config(t, server, "role/repo"))
		if err != nil {
			return err
		}
		defer be.Close()
		return be.Save(t.Context(), index, []byte("x"))
	}
	if err := save(); err != nil {
		t.Errorf("with the keys of a profile: %v", err)
	}

	// The role's keys are right, those it is assumed with are not.
	writeProfile(t, "nightly", miniotest.Key, "no secret of anybody")
	var asked atomic.Value
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.FormValue("Action") + " " + r.FormValue("RoleArn") + " " + r.FormValue("ExternalId"))
		fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
			<AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><Expiration>%s</Expiration>
			</Credentials></AssumeRoleResult></AssumeRoleResponse>`, miniotest.Key, miniotest.Secret, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	defer sts.Close()
	if err := save(); !errors.Is(err, backend.ErrDenied) {
		t.Errorf("with a wrong secret: %v, want ErrDenied", err)
	}
	t.Setenv("RESTIC_AWS_ASSUME_ROLE_ARN", "arn:aws:iam::1:role/backup")
	t.Setenv("RESTIC_AWS_ASSUME_ROLE_EXTERNAL_ID", "42")
	t.Setenv("RESTIC_AWS_ASSUME_ROLE_STS_ENDPOINT", sts.URL)
	if err := save(); err != nil {
		t.Errorf("with the keys of a role: %v", err)
	}
	if got, want := asked.Load(), "AssumeRole arn:aws:iam::1:role/backup 42"; got != want {
		t.Errorf("STS was asked for %q, want %q", got, want)
	}
}

// Nothing of the contract changes on a line that breaks, when calls are made again as the program does.
func TestConformanceOnBrokenLine(t *testing.T) {
	server := miniotest.Start(t)
	miniotest.Setenv(t)
	create(t, config(t, server, "broken/first")) // makes the bucket
	line := linetest.New(t, server.Addr, linetest.Reset(20*time.Millisecond, 0.05), linetest.Latency(10*time.Millisecond))
	line.CutEvery(300 * time.Millisecond)
	var places atomic.Int64
	backendtest.RunRepeating(t, 16, func() bool { return line.Cuts() >= 10 }, func(t *testing.T) backend.Backend {
		c, err := Parse(fmt.Sprintf("s3:http://%s/broken/%d", line.Addr, places.Add(1)))
		if err != nil {
			t.Fatal(err)
		}
		be, err := Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return retry.New(be, retry.Options{Total: time.Minute})
	})
}
