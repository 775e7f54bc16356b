package fs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"vitrine/cache/blobcache"
	"vitrine/fs/tree"
)

// fsType is what /proc/mounts says of us.
const fsType = "fuse.vitrine"

const (
	maxRequestBytes = 1 << 20 // the most that Linux puts into one request
	maxBackground   = 64      // requests for readahead that the kernel sends at a time
	// inflightBytes bounds the buffers for incoming requests.
	inflightBytes = 64 << 20
	// kernelReadahead is what the kernel reads ahead, in KiB, where we may say so.
	kernelReadahead = 4096
)

// Server is a mounted file system.
type Server struct {
	dir     string
	fuse    *fuse.Server
	nodes   *nodes
	control *control
	log     *slog.Logger

	began       time.Time
	budgetBytes int64            // Options.CacheBytes
	repository  RepositoryStatus // for Status
	traffic     func() Traffic   // Options.Traffic

	stop context.CancelFunc // ends the loads, the refresher and the readahead
	done chan struct{}      // closed when all that served has stopped

	unmountMu sync.Mutex // serializes Unmount; guards detached
	detached  bool
}

// Mount shows the snapshots of src below dir. It returns when they can be read there. ctx
// bounds only the setting up; the mount lasts until Unmount, or until somebody else
// unmounts dir.
//
// The process that mounts must not open regular files of the mount by package os while nobody
// else has: the runtime adds them to its epoll set, for which the kernel asks the mount, and
// does not yield the processor that the answer needs.
func Mount(ctx context.Context, dir string, src Source, o Options) (*Server, error) {
	return mount(ctx, dir, src, o, func(n *nodes) fuse.RawFileSystem { return n })
}

// mount is Mount with a layer between the kernel and the nodes, for tests that count.
func mount(ctx context.Context, dir string, src Source, o Options, layer func(*nodes) fuse.RawFileSystem) (*Server, error) {
	o.setDefaults()
	dir, err := checkMountPoint(dir, &o)
	if err != nil {
		return nil, err
	}
	t, err := tree.New(src, tree.Options{
		Filter: o.Filter, PathTemplates: o.PathTemplates, TimeTemplate: o.TimeTemplate,
		OwnerRoot: o.OwnerRoot, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
		CacheBytes: o.CacheBytes / 4, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if _, err := t.Refresh(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("list snapshots: %w", err), t.Close())
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	endless := context.WithoutCancel(life)
	n := &nodes{
		refuse: newRefuse(), tree: t, src: src, log: o.Log, diskPath: o.RepoPath,
		blobs:  blobcache.NewBlobs(o.CacheBytes / 4),
		chunks: blobcache.NewChunks(o.CacheBytes / 2),
		base:   func() context.Context { return endless },
		awake:  newAwake(awakeFile),
		spare:  newTurns(),
	}
	n.stats.refreshed(began, 0, nil)
	n.ahead = newStreamer(src, n.chunks, n.spare, n.fetched, &n.stats.ahead)
	s := &Server{
		dir: dir, nodes: n, log: o.Log, stop: stop, done: make(chan struct{}),
		began: time.Now(), budgetBytes: o.CacheBytes, traffic: o.Traffic,
		repository: RepositoryStatus{ID: o.RepoID, Location: o.RepoName},
	}
	n.dirs = newPusher(n, func(id tree.NodeID, content []byte) fuse.Status {
		return s.fuse.InodeNotifyStoreCache(uint64(id), 0, content)
	})
	s.control = newControl(layer(n), uint32(os.Getuid()), uint32(os.Getgid()), s.statusJSON, &n.stats.reads)
	var watch *gone
	if s.fuse, watch, err = newServer(s.control, dir, mountOptions(&o)); err != nil {
		stop()
		if m, findErr := findMount(dir); findErr == nil && m.fsType == fsType {
			detach(dir, true) // it was mounted, and then the kernel and we did not agree
		}
		return nil, errors.Join(fmt.Errorf("mount %s: %w", dir, err), n.closeCaches())
	}
	go s.serve(life, o.RefreshEvery, watch)
	if err := raiseReadahead(dir); err != nil {
		s.log.Debug("kernel readahead stays as it is", "err", err)
	}
	return s, nil
}

// mountOptions are what DESIGN.md section 4 measured as best.
func mountOptions(o *Options) *fuse.MountOptions {
	m := &fuse.MountOptions{
		AllowOther: o.AllowOther, FsName: cmp.Or(o.RepoName, "vitrine"), Name: "vitrine",
		Options:                  []string{"ro"},
		DirectMountStrict:        os.Geteuid() == 0, // fusermount can do no more than root; see inherit.go
		DirectMountFlags:         unix.MS_NOSUID | unix.MS_NODEV | unix.MS_RDONLY | unix.MS_NOATIME,
		MaxWrite:                 maxRequestBytes,
		MaxBackground:            maxBackground,
		MaxInflightRequestBytes:  inflightBytes,
		DisableSplice:            true,
		EnableSymlinkCaching:     true,
		ExplicitDataCacheControl: true,
		ExtraCapabilities:        fuse.CAP_NO_OPENDIR_SUPPORT,
		// The kernel knows how to obey ACLs. It asks for them file by file, so it does so
		// only where there is somebody to obey.
		EnableAcl: o.AllowOther && !o.NoDefaultPermissions,
		Logger:    slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		PanicHandler: func(p any) fuse.Status {
			o.Log.Error("panic while serving a request: this is a bug", "panic", p, "stack", string(stack()))
			return fuse.EIO
		},
	}
	if !o.NoDefaultPermissions {
		m.Options = append(m.Options, "default_permissions")
	}
	return m
}

// serve owns everything that runs for the mount.
func (s *Server) serve(life context.Context, every time.Duration, watch *gone) {
	defer close(s.done)
	var wg, pushing sync.WaitGroup
	wg.Go(func() { s.nodes.ahead.run(life) })
	pushing.Go(func() { s.nodes.dirs.run(life) })
	wg.Go(func() { s.nodes.awake.run(life) })
	if every > 0 {
		wg.Go(func() { s.refresh(life, every) })
	}
	end := sync.OnceFunc(func() {
		s.stop()
		if err := s.nodes.closeCaches(); err != nil { // which ends the loads that stop does not
			s.log.Warn("cannot close the caches of the mount", "err", err)
		}
	})
	wg.Go(func() {
		if watch.wait() {
			end() // or Serve would wait for those that nobody waits for
		}
	})
	s.fuse.Serve() // returns when every request is answered and no more can come
	watch.stop()
	s.stop()
	s.nodes.dirs.close()
	end()
	pushing.Wait() // until then it tells ahead what to expect
	s.nodes.ahead.close()
	wg.Wait()
}

func (n *nodes) closeCaches() error {
	return errors.Join(n.blobs.Close(), n.chunks.Close(), n.tree.Close())
}

// Unmount takes the file system away. When programs still use it, it is detached from the
// directory tree at once and goes on serving those until they leave. Either way
// Wait returns when the last one has left.
func (s *Server) Unmount() error {
	s.unmountMu.Lock()
	defer s.unmountMu.Unlock()
	if s.detached || s.stopped() {
		return nil
	}
	err := s.detachRetrying()
	if errors.Is(err, unix.EBUSY) {
		s.log.Warn(fmt.Sprintf("programs still use the mount %s: it is detached and ends when they leave", s.dir))
		if err = detach(s.dir, true); err == nil {
			s.detached = true
			return nil
		}
	}
	if err != nil {
		if s.stopped() { // somebody else was faster
			return nil
		}
		return fmt.Errorf("unmount %s: %w", s.dir, err)
	}
	s.detached = true
	s.stop()
	err = s.nodes.closeCaches() // nobody waits for what is being fetched
	<-s.done
	return err
}

func (s *Server) stopped() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// detachRetrying gives the kernel a moment: it closes files after the program that had them
// open was told so.
func (s *Server) detachRetrying() error {
	var err error
	for pause := 5 * time.Millisecond; pause < 100*time.Millisecond; pause *= 2 {
		if err = detach(s.dir, false); !errors.Is(err, unix.EBUSY) {
			return err
		}
		time.Sleep(pause)
	}
	return err
}

// detach unmounts dir, at once or when nobody uses it. Busy is of class EBUSY.
func detach(dir string, lazy bool) error {
	flags, arg := unix.UMOUNT_NOFOLLOW, "-u"
	if lazy {
		flags, arg = flags|unix.MNT_DETACH, "-uz"
	}
	err := unix.Unmount(dir, flags)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	// Other users than root go through the set-uid program that mounted it.
	helper, err := fusermountProgram()
	if err != nil {
		return err
	}
	out, err := exec.Command(helper, arg, dir).CombinedOutput()
	if err == nil {
		return nil
	}
	if !lazy {
		return fmt.Errorf("%w: %s: %s", unix.EBUSY, helper, out)
	}
	return fmt.Errorf("%s: %w: %s", helper, err, out)
}

// Wait returns when the file system is gone and all that served it has stopped.
func (s *Server) Wait() { <-s.done }
