package wiring

import (
	"cmp"
	"slices"
)

// ExtendedOption is a key of -o.
type ExtendedOption struct {
	Key     string
	Does    string
	Default string // "" when nothing is worth saying
}

// ExtendedOptions lists the keys of -o in their order.
func ExtendedOptions() []ExtendedOption {
	all := slices.Clone(extendedOptions)
	slices.SortFunc(all, func(a, b ExtendedOption) int { return cmp.Compare(a.Key, b.Key) })
	return all
}

// extendedOptions says what the packages of the stores take; a test compares.
var extendedOptions = []ExtendedOption{
	{"slow.latency", "make each request to any store wait so long, to try what a store far away is like", ""},
	{"slow.bandwidth", "move at most so many bytes a second to and from any store", ""},
	{"local.connections", "accepted for compatibility: a local disk needs no limit", ""},
	{"local.layout", "accepted for compatibility: there is only the layout called default", "default"},
	{"rclone.program", "the rclone to run, with arguments that come before all others", "rclone"},
	{"rclone.args", "arguments for rclone", "serve restic --stdio --b2-hard-delete"},
	{"rclone.timeout", "how long an rclone that is started may take for its first answer", "1m"},
	{"rclone.connections", "most requests at a time", "32"},
	{"rest.connections", "most requests at a time", "32"},
	{"s3.bucket-lookup", "how a bucket is named to the server: auto, dns or path", "auto"},
	{"s3.connections", "most requests at a time", "16"},
	{"s3.layout", "accepted for compatibility: there is only the layout called default", "default"},
	{"s3.list-objects-v1", "list with the old version of the call, for old servers", "false"},
	{"s3.region", "region of the bucket", ""},
	{"s3.retries", "attempts of the client library for each request", "1"},
	{"s3.storage-class", "storage class of packs", ""},
	{"s3.unsafe-anonymous-auth", "sign no request, for a public bucket", "false"},
	{"sftp.args", "arguments for ssh that come before all others", ""},
	{"sftp.command", "a command to run instead of ssh", ""},
	{"sftp.layout", "accepted for compatibility: there is only the layout called default", "default"},
	{"sftp.connections", "most processes of ssh at a time", "5"},
}
