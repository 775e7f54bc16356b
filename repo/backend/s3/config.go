package s3

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"vitrine/repo/backend/option"
)

// DefaultConnections is how many requests run at the same time when nobody says otherwise. One
// connection to a bucket 50 ms away brings about 20 MB/s in ranges of a megabyte, so restic's five
// would starve a mount; sixteen fill a gigabit line and cost the server little.
const DefaultConnections = 16

// maxConnections is the most that the option takes.
const maxConnections = 1000

// Config says where a repository is and how it is reached. Credentials are no part of it: they come
// from the environment, the shared credentials file or the machine's role when the store is opened.
type Config struct {
	Endpoint string // host or host:port
	Insecure bool   // http instead of https
	Bucket   string
	Prefix   string // of every object, without slashes at its ends; "" is the bucket's root

	Region        string            // "" takes AWS_DEFAULT_REGION, AWS_REGION, or asks the server
	BucketLookup  string            // "auto", "dns" (bucket.host/key) or "path" (host/bucket/key); "" is auto
	StorageClass  string            // of packs; "" leaves it to the bucket
	Connections   int               // requests at the same time, listings not counted; 0 is DefaultConnections
	ListObjectsV1 bool              // for old servers
	Anonymous     bool              // sign no request
	Retries       int               // attempts of the client library for each request; 0 is one attempt
	Transport     http.RoundTripper // nil makes one that verifies certificates against the system's
}

// Parse reads a location:
//
//	s3:https://host[:port]/bucket[/prefix]
//	s3:http://host[:port]/bucket[/prefix]
//	s3:host[:port]/bucket[/prefix]          https
//	s3://host[:port]/bucket[/prefix]        https
//
// Without a prefix the repository is at the root of the bucket. A location with credentials in it
// is refused, and no error repeats them.
func Parse(location string) (Config, error) {
	rest, ok := strings.CutPrefix(location, "s3:")
	if !ok {
		return Config{}, errors.New(`the location of an s3 repository begins with "s3:"`)
	}
	if strings.Contains(rest, "@") {
		return Config{}, errors.New("s3: there is an @ in the location; credentials belong into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	if strings.ContainsAny(rest, "?#") {
		return Config{}, errors.New("s3: the location has a ? or # in it, which neither a bucket nor a prefix may have")
	}
	var c Config
	switch {
	case strings.HasPrefix(rest, "https://"), strings.HasPrefix(rest, "http://"):
		u, err := url.Parse(rest)
		if err != nil {
			return Config{}, fmt.Errorf("s3: %w", err)
		}
		c.Endpoint, c.Insecure = u.Host, u.Scheme == "http"
		rest = strings.TrimPrefix(u.Path, "/")
	default:
		c.Endpoint, rest, _ = strings.Cut(strings.TrimPrefix(rest, "//"), "/")
	}
	c.Bucket, rest, _ = strings.Cut(rest, "/")
	if c.Endpoint == "" || c.Bucket == "" {
		return Config{}, fmt.Errorf("s3: %q lacks a host or a bucket: write it as s3:https://host/bucket/prefix", location)
	}
	if err := s3utils.CheckValidBucketName(c.Bucket); err != nil {
		return Config{}, fmt.Errorf("s3: bucket %q: %w", c.Bucket, err)
	}
	if rest != "" {
		c.Prefix = strings.Trim(path.Clean(rest), "/")
	}
	if c.Prefix == "." {
		c.Prefix = ""
	}
	if slices.Contains(strings.Split(c.Prefix, "/"), "..") {
		return Config{}, fmt.Errorf("s3: prefix %q leads out of the bucket", c.Prefix)
	}
	return c, nil
}

// Public returns the location without anything secret, in the first form of Parse.
func (c *Config) Public() string {
	scheme := "https"
	if c.Insecure {
		scheme = "http"
	}
	return strings.TrimSuffix("s3:"+scheme+"://"+c.Endpoint+"/"+c.Bucket+"/"+c.Prefix, "/")
}

// archives are the storage classes from which nothing can be read before it was restored by hand.
var archives = []string{"GLACIER", "DEEP_ARCHIVE"}

// settings are the keys of -o without their "s3.", each with what its value does.
var settings = map[string]func(c *Config, value string) error{
	"region": func(c *Config, value string) error {
		c.Region = value
		return nil
	},
	"bucket-lookup": func(c *Config, value string) error {
		if _, ok := lookups[value]; !ok {
			return fmt.Errorf("%q is none of auto, dns and path", value)
		}
		c.BucketLookup = value
		return nil
	},
	"storage-class": func(c *Config, value string) error {
		if slices.Contains(archives, strings.ToUpper(value)) {
			return fmt.Errorf("%s keeps files where no backup, check or mount can read them; GLACIER_IR and STANDARD_IA are cheap and can be read", value)
		}
		c.StorageClass = value
		return nil
	},
	"connections": func(c *Config, value string) (err error) {
		c.Connections, err = option.Number(value, maxConnections)
		return err
	},
	"retries": func(c *Config, value string) (err error) {
		c.Retries, err = option.Number(value, 100)
		return err
	},
	"list-objects-v1": func(c *Config, value string) (err error) {
		c.ListObjectsV1, err = parseBool(value)
		return err
	},
	"unsafe-anonymous-auth": func(c *Config, value string) (err error) {
		c.Anonymous, err = parseBool(value)
		return err
	},
	"layout": func(_ *Config, value string) error {
		if err := option.Layout(value); err != nil {
			return fmt.Errorf("%w; restic migrates s3legacy with `restic migrate s3_layout`", err)
		}
		return nil
	},
}

func parseBool(value string) (bool, error) {
	b, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("%q is neither true nor false", value)
	}
	return b, nil
}

// Apply sets extended options, whose keys come without the "s3." of the command line.
func (c *Config) Apply(options map[string]string) error {
	return option.Apply(c, "s3", settings, options)
}

var lookups = map[string]minio.BucketLookupType{
	"": minio.BucketLookupAuto, "auto": minio.BucketLookupAuto, "dns": minio.BucketLookupDNS, "path": minio.BucketLookupPath,
}
