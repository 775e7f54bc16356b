package wiring

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// The list has all keys that are taken, and no others.
func TestExtendedOptions(t *testing.T) {
	values := map[string]string{
		"slow.latency": "1ms", "slow.bandwidth": "1M", "local.connections": "2", "rclone.timeout": "1m", "rclone.program": "rclone", "rclone.args": "serve",
		"s3.bucket-lookup": "dns", "s3.region": "eu", "s3.storage-class": "STANDARD", "sftp.args": "-v", "sftp.command": "ssh",
	}
	listed := map[string][]string{}
	for _, o := range ExtendedOptions() {
		value := values[o.Key]
		if value == "" {
			value = o.Default
		}
		if _, err := ParseStoreOptions([]string{o.Key + "=" + value}); err != nil || o.Does == "" {
			t.Errorf("%s: %v", o.Key, err)
		}
		prefix, key, _ := strings.Cut(o.Key, ".")
		listed[prefix] = append(listed[prefix], key)
	}
	for key := range general {
		prefix, key, _ := strings.Cut(key, ".")
		if !slices.Contains(listed[prefix], key) {
			t.Errorf("%s.%s is not listed", prefix, key)
		}
	}
	// Each store names its keys when it does not know one.
	for name := range remotes {
		_, err := ParseStoreOptions([]string{name + ".nosuch=1"})
		if err == nil {
			t.Fatalf("%s takes anything", name)
		}
		_, names, _ := strings.Cut(err.Error(), "there ")
		_, names, found := strings.Cut(names, "there ")
		if !found {
			t.Fatalf("%s: %v", name, err)
		}
		told := map[string]bool{}
		for _, word := range strings.FieldsFunc(names, func(r rune) bool { return r == ' ' || r == ',' || r == ':' }) {
			if word != "is" && word != "are" && word != "and" {
				told[strings.TrimPrefix(word, name+".")] = true
			}
		}
		if got := slices.Sorted(maps.Keys(told)); !slices.Equal(got, slices.Sorted(slices.Values(listed[name]))) {
			t.Errorf("%s: it takes %q, listed are %q", name, got, listed[name])
		}
	}
}
