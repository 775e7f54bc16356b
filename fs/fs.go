// Package fs serves snapshots as a read-only file system through FUSE.
package fs

import (
	"context"
	"log/slog"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// Source is what a mount reads from; *repo.Repository is one. All methods may be called in
// parallel.
type Source interface {
	// ListFiles lists the files of a kind; the mount asks for snapshots, every
	// Options.RefreshEvery.
	ListFiles(ctx context.Context, kind backend.Kind) ([]backend.Info, error)
	// LoadSnapshot reads one snapshot. The result is shared and not changed.
	LoadSnapshot(ctx context.Context, id blob.ID) (*snapshot.Snapshot, error)
	// LookupBlob tells where a blob is stored and how long it is; false when unknown.
	LookupBlob(h blob.Handle) (blob.Location, bool, error)
	// ReadBlob returns the verified plain bytes, appended to buf[:0]. For a blob that is
	// unknown or whose pack is gone it looks for newer index files first.
	ReadBlob(ctx context.Context, h blob.Handle, buf []byte) ([]byte, error)
}

// Options say how Mount shows the repository. The zero value is usable.
type Options struct {
	// AllowOther lets other users in; without it only the user who mounts sees anything.
	AllowOther bool
	// OwnerRoot shows every file as owned by root.
	OwnerRoot bool
	// NoDefaultPermissions leaves out the kernel's check of modes and owners.
	NoDefaultPermissions bool
	// NonEmpty allows a mount point that has entries; they are hidden while mounted.
	NonEmpty bool

	// Filter selects the snapshots that are shown.
	Filter snapshot.Filter
	// PathTemplates lay out the snapshots; nil means DefaultPathTemplates. Verbs: %i short
	// ID, %I ID, %u user, %h host, %t tag (one path per tag), %T time, %% percent sign.
	PathTemplates []string
	// TimeTemplate formats %T, as time.Format does; "" means time.RFC3339.
	TimeTemplate string

	// CacheBytes bounds the plain blobs, parsed trees and file layouts held in RAM;
	// 0 means DefaultCacheBytes.
	CacheBytes int64
	// RefreshEvery is the time between two looks for new snapshots; 0 means
	// DefaultRefresh, negative means never.
	RefreshEvery time.Duration

	// RepoPath is the repository's directory when it is on a local disk: Mount refuses a
	// mount point that would cover it, and df shows the numbers of its disk.
	RepoPath string

	// Log receives what goes wrong while serving; nil discards it.
	Log *slog.Logger
}

// Defaults of Options.
const (
	DefaultCacheBytes = 256 << 20
	DefaultRefresh    = 3 * time.Second
)

// DefaultPathTemplates is the layout of a mount.
var DefaultPathTemplates = []string{"ids/%i", "snapshots/%T", "hosts/%h/%T", "tags/%t/%T"}

// Server is a mounted file system.
type Server struct{}

// Mount shows the snapshots of src below dir. It returns when they can be read there. ctx
// bounds only the setting up; the mount lasts until Unmount, or until somebody else
// unmounts dir.
func Mount(ctx context.Context, dir string, src Source, o Options) (*Server, error) {
	panic("not yet")
}

// Unmount takes the file system away. When programs still use it, it is detached from the
// directory tree at once and goes on serving those until they leave. Either way
// Wait returns when the last one has left.
func (s *Server) Unmount() error { panic("not yet") }

// Wait returns when the file system is gone and all that served it has stopped.
func (s *Server) Wait() { panic("not yet") }
