// Package fs serves snapshots as a read-only file system through FUSE: the tree of package
// fs/tree at the top, the verified plain bytes of blobs below it.
//
// One read(2), step by step: the kernel asks for up to 1 MiB of a node; the tree finds the
// entry, and for files of several chunks the layout that says which chunks the range
// touches; each chunk comes from the blob cache or, once for all who wait for it, from Source,
// which verifies it; the reply refers to the cached bytes, without a copy, and holds the buffer
// until the kernel has them. What is being read is noted for the prefetcher, which never blocks
// (streamer, with its plans from fs/readahead; pusher follows programs that walk over directories).
//
// # Round trips
//
// A question of the kernel and its answer cost more than most answers do, so the mount is built to be asked
// little. The kernel keeps what it was told. The content of small files is put into its page cache
// before anybody asks (push.go), out of what was loaded ahead of the walk (ahead.go); both follow
// programs that read what they list, so that find and ls cause neither. And while requests come in a
// row the processors are kept from falling asleep between them (awake.go).
//
// # What the kernel is told
//
// Open, opendir, flush and access are answered with ENOSYS once: the kernel then stops asking
// and keeps its caches between opens. Entries and attributes inside a snapshot never expire; the
// lists of snapshots expire after a second, and the kernel is notified when they change.
// Nothing is locked across I/O, and no request waits for a refresh of the lists.
//
// # Interrupts
//
// A request is finished even if its caller was interrupted. Go programs, for one, are
// interrupted all the time, and must not see an error for it; the fetch is shared with
// others anyway. Whoever waits for pages of a file can still be killed: the kernel reads those in
// the background.
//
// # Status
//
// .vitrine/status below the mount point tells how the mount is (Status), see control.
//
// # Errors
//
// What is damaged or missing is EIO for just the range, and a line in the log with path, blob
// and pack; everything else stays readable. errno.go is the only place that makes an errno.
package fs

import (
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"vitrine/fs/tree"
	"vitrine/repo/snapshot"
)

// Source is what a mount reads from; *repo.Repository is one.
type Source = tree.Source

// Options say how Mount shows the repository. The zero value is usable.
type Options struct {
	// AllowOther lets other users in; without it only the user who mounts sees anything.
	AllowOther bool
	// OwnerRoot shows every file as owned by root.
	OwnerRoot bool
	// NoDefaultPermissions leaves out the kernel's check of modes, owners and ACLs.
	NoDefaultPermissions bool
	// NonEmpty allows a mount point that has entries; they are hidden while mounted.
	NonEmpty bool

	// Filter selects the snapshots that are shown.
	Filter snapshot.Filter
	// PathTemplates lay out the snapshots; nil means DefaultPathTemplates. Verbs: %i short
	// ID, %I ID, %u user, %h host, %t tag (one path for each), %T time, %% percent sign.
	PathTemplates []string
	// TimeTemplate formats %T, as time.Format does; "" means time.RFC3339.
	TimeTemplate string

	// CacheBytes bounds the plain blobs, parsed trees and file layouts held in RAM; 0 means
	// DefaultCacheBytes(). Less than MinCacheBytes is no error, but reading gets slow.
	CacheBytes int64
	// RefreshEvery is the time between two looks for new snapshots; 0 means
	// DefaultRefresh, negative means never.
	RefreshEvery time.Duration

	// RepoPath is the repository's directory when it is on a local disk: Mount refuses a
	// mount point that would cover it or lies in it, and df shows the numbers of its disk.
	RepoPath string
	// RepoName is what /proc/mounts, df and the status call the repository, without user and
	// password; "" says vitrine. RepoID is the ID in its config, for the status.
	RepoName, RepoID string
	// Traffic counts the requests to the store, for the status; nil leaves them out. It is
	// called in parallel.
	Traffic func() Traffic

	// Log receives what goes wrong while serving; nil discards it.
	Log *slog.Logger
}

// Defaults of Options.
const (
	MinCacheBytes   = 16 << 20 // the largest chunks are 8 MiB
	maxDefaultBytes = 512 << 20
	DefaultRefresh  = 3 * time.Second
)

// DefaultPathTemplates is the layout of a mount.
var DefaultPathTemplates = tree.DefaultPathTemplates

func (o *Options) setDefaults() {
	if o.CacheBytes == 0 {
		o.CacheBytes = DefaultCacheBytes()
	}
	if o.RefreshEvery == 0 {
		o.RefreshEvery = DefaultRefresh
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// DefaultCacheBytes is 512 MiB, or an eighth of the machine's RAM where that is less.
func DefaultCacheBytes() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return maxDefaultBytes
	}
	return min(maxDefaultBytes, int64(info.Totalram)*int64(info.Unit)/8)
}
