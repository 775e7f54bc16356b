package s3

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for location, want := range map[string]Config{
		"s3:https://s3.example.org/bucket":                  {Endpoint: "s3.example.org", Bucket: "bucket"},
		"s3:https://s3.example.org:9000/bucket/":            {Endpoint: "s3.example.org:9000", Bucket: "bucket"},
		"s3:http://127.0.0.1:9000/bucket/some/prefix":       {Endpoint: "127.0.0.1:9000", Insecure: true, Bucket: "bucket", Prefix: "some/prefix"},
		"s3:http://127.0.0.1:9000/bucket/some/prefix/":      {Endpoint: "127.0.0.1:9000", Insecure: true, Bucket: "bucket", Prefix: "some/prefix"},
		"s3:s3.amazonaws.com/bucket":                        {Endpoint: "s3.amazonaws.com", Bucket: "bucket"},
		"s3:s3.amazonaws.com/bucket/p":                      {Endpoint: "s3.amazonaws.com", Bucket: "bucket", Prefix: "p"},
		"s3://s3.eu-central-1.amazonaws.com/bucket/a//b/./": {Endpoint: "s3.eu-central-1.amazonaws.com", Bucket: "bucket", Prefix: "a/b"},
		"s3:localhost:9000/bucket/":                         {Endpoint: "localhost:9000", Bucket: "bucket"},
		"s3:https://storage.googleapis.com/bucket":          {Endpoint: "storage.googleapis.com", Bucket: "bucket"},
		"s3:https://[::1]:9000/bucket//":                    {Endpoint: "[::1]:9000", Bucket: "bucket"},
	} {
		got, err := Parse(location)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", location, err, diff)
			continue
		}
		again, err := Parse(got.Public())
		if diff := cmp.Diff(want, again); diff != "" || err != nil {
			t.Errorf("%s is public as %s, which is not the same: %v\n%s", location, got.Public(), err, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for location, word := range map[string]string{
		"/srv/backup":                          `begins with "s3:"`,
		"s3:":                                  "lacks a host or a bucket",
		"s3://":                                "lacks a host or a bucket",
		"s3:///bucket/prefix":                  "lacks a host or a bucket",
		"s3:https://host":                      "lacks a host or a bucket",
		"s3:https://host/":                     "lacks a host or a bucket",
		"s3:host//prefix":                      "lacks a host or a bucket",
		"s3:host/b":                            `bucket "b"`,
		"s3:host/bucket/../other":              "leads out",
		"s3:https://key:geheim@host/bucket":    "AWS_ACCESS_KEY_ID",
		"s3:key:geheim@host/bucket":            "AWS_ACCESS_KEY_ID",
		"s3:https://host/bucket?secret=geheim": "? or #",
		"s3:https://host:port/bucket":          "invalid port",
	} {
		_, err := Parse(location)
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: error %v, want %q in it", location, err, word)
		} else if strings.Contains(err.Error(), "geheim") {
			t.Errorf("the secret is in the message: %v", err)
		}
	}
}

func TestApply(t *testing.T) {
	c, err := Parse("s3:https://host/bucket")
	if err != nil {
		t.Fatal(err)
	}
	err = c.Apply(map[string]string{
		"region": "eu-central-1", "bucket-lookup": "path", "storage-class": "STANDARD_IA", "connections": "40",
		"list-objects-v1": "true", "unsafe-anonymous-auth": "1", "retries": "3", "layout": "default",
	})
	want := Config{
		Endpoint: "host", Bucket: "bucket", Region: "eu-central-1", BucketLookup: "path", StorageClass: "STANDARD_IA",
		Connections: 40, ListObjectsV1: true, Anonymous: true, Retries: 3,
	}
	if diff := cmp.Diff(want, c); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, c := range []struct{ key, value, word string }{
		{"colour", "red", "there are s3.bucket-lookup, s3.connections"},
		{"bucket-lookup", "virtual", "auto, dns and path"},
		{"connections", "0", "from 1 to"},
		{"connections", "many", "from 1 to"},
		{"retries", "-1", "from 1 to"},
		{"list-objects-v1", "perhaps", "true nor false"},
		{"unsafe-anonymous-auth", "", "true nor false"},
		{"storage-class", "glacier", "GLACIER_IR"},
		{"storage-class", "DEEP_ARCHIVE", "GLACIER_IR"},
		{"layout", "s3legacy", "restic migrate"},
	} {
		var config Config
		err := config.Apply(map[string]string{c.key: c.value})
		if err == nil || !strings.Contains(err.Error(), "s3."+c.key) || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%s=%s: error %v, want the key and %q in it", c.key, c.value, err, c.word)
		}
	}
}
