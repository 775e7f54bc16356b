package accept

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"vitrine/repo"
	"vitrine/repo/backend/rest/resttest"
	"vitrine/repo/backend/s3/miniotest"
	"vitrine/repo/backend/sftp/sshdtest"
	"vitrine/scripts/internal/sample"
)

// far is a server for one repository.
type far struct {
	addr          string                    // host:port
	at            func(addr string) string  // the repository's location when the server is reached at addr
	stop, restart func()                    // nil where no test needs them
	stored        func(t *testing.T) string // a directory with all files of the repository, as they are now
	packs         func() (int, error)       // how many packs of the smallest pack size are full, asked often
	// inPlace is set where a test cuts uploads to a server that writes files under their final names, as rclone does
	// on a disk: the rest of a pack or an index file may stay then. It is not an error in what sound looks at.
	inPlace bool
	options []string // of vitrine
	restic  []string // options of restic
}

// fars makes the servers, by the scheme of their locations.
var fars = map[string]func(t *testing.T, l *lab) *far{
	"rest": farREST, "s3": farS3, "sftp": farSFTP,
	"rclone s3": farRcloneS3,
	// No server, but a store of its own all the same.
	"local":  func(_ *testing.T, l *lab) *far { return farDirectory(l, "") },
	"rclone": func(_ *testing.T, l *lab) *far { return farDirectory(l, "rclone::local:") },
}

// farDirectory is a directory of this machine that a store has under its prefix.
func farDirectory(l *lab, prefix string) *far {
	dir := l.dir + "/stored"
	return &far{
		at:     func(string) string { return prefix + dir },
		stored: func(*testing.T) string { return dir },
		packs:  packsIn(dir),
	}
}

// packsIn counts the full packs of a repository in a directory.
func packsIn(dir string) func() (int, error) {
	return func() (int, error) {
		packs := 0
		err := filepath.WalkDir(dir+"/data", func(p string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || !fileName.MatchString(d.Name()) {
				return err
			}
			content, err := os.ReadFile(p)
			if errors.Is(err, fs.ErrNotExist) {
				return nil // some servers write in place, and remove what was cut
			}
			if len(content) >= repo.MinPackBytes && whole(d.Name(), content) {
				packs++
			}
			return err
		})
		return packs, err
	}
}

func farREST(t *testing.T, l *lab) *far {
	dir := l.dir + "/served"
	s := resttest.Start(t, dir)
	return &far{
		addr: s.Addr(), at: func(addr string) string { return "rest:http://" + addr + "/" },
		stop: s.Stop, restart: func() { s.Restart(t) },
		stored: func(*testing.T) string { return dir },
		packs:  packsIn(dir),
	}
}

func farSFTP(t *testing.T, l *lab) *far {
	dir := l.dir + "/served"
	s := sshdtest.Start(t)
	return &far{
		addr: s.Addr(), at: func(addr string) string { return "sftp://root@" + addr + "/" + dir },
		stop: s.Kill, restart: s.Restart,
		stored:  func(*testing.T) string { return dir },
		packs:   packsIn(dir),
		options: []string{"-o", "sftp.args=" + strings.Join(s.Args(), " ")},
		restic:  []string{"-o", "sftp.command=" + s.Command()},
	}
}

// farS3 needs miniotest.Setenv, which the test calls before its parallel parts.
func farS3(t *testing.T, l *lab) *far {
	s := miniotest.Start(t)
	return &far{
		addr: s.Addr, at: func(addr string) string { return "s3:http://" + addr + "/far/repo" },
		stop: s.Stop, restart: func() { s.Restart(t) },
		stored: func(t *testing.T) string { return downloaded(t, s.Addr, "far", "repo/", l.dir+"/downloaded") },
		packs: func() (int, error) {
			client, err := minioClient(s.Addr)
			if err != nil {
				return 0, err
			}
			packs := 0
			for object := range client.ListObjects(t.Context(), "far", minio.ListObjectsOptions{Prefix: "repo/data/", Recursive: true}) {
				if err = object.Err; err == nil && object.Size >= repo.MinPackBytes {
					packs++
				}
			}
			return packs, err
		},
	}
}

func minioClient(addr string) (*minio.Client, error) {
	return minio.New(addr, &minio.Options{Creds: credentials.NewStaticV4(miniotest.Key, miniotest.Secret, "")})
}

// farRcloneS3 is an S3 server that rclone stands in front of.
func farRcloneS3(t *testing.T, l *lab) *far {
	f := farS3(t, l)
	f.at = func(addr string) string {
		return "rclone::s3,provider=Minio,env_auth=true,endpoint='http://" + addr + "':far/repo"
	}
	return f
}

// downloaded fetches all objects with the prefix into a new directory.
func downloaded(t *testing.T, addr, bucket, prefix, dir string) string {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	client, err := minioClient(addr)
	if err != nil {
		t.Fatal(err)
	}
	for object := range client.ListObjects(t.Context(), bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if object.Err != nil {
			t.Fatal(object.Err)
		}
		name := filepath.Join(dir, strings.TrimPrefix(object.Key, prefix))
		if err := client.FGetObject(t.Context(), bucket, object.Key, name, minio.GetObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// newRemoteLab is a lab whose repository is on a server of its own. The repository exists and cuts files
// as the one of twin does, which is on the local disk, has its own lab and serves for comparing.
func newRemoteLab(t *testing.T, kind string) (l, twin *lab, f *far) {
	t.Helper()
	l, twin = newLab(t), newLab(t)
	f = fars[kind](t, l)
	l.repo, l.vitrineOptions, l.resticOptions = f.at(f.addr), f.options, f.restic
	twin.vitrine("init")
	l.vitrine("init", "--copy-chunker-params", "--from-repo", twin.repo, "--from-password-file", twin.password)
	return l, twin, f
}

// through is the lab as it is when the server is reached at another address.
func (l *lab) through(f *far, addr string) *lab {
	other := *l
	other.repo = f.at(addr)
	return &other
}

// blobs lists all blobs that the index has by their types, sorted.
func (l *lab) blobs() map[string][]string {
	l.t.Helper()
	all := map[string][]string{}
	for line := range strings.Lines(l.vitrine("list", "blobs")) {
		kind, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		all[kind] = append(all[kind], id)
	}
	for _, ids := range all {
		slices.Sort(ids)
	}
	return all
}

var (
	fileName = regexp.MustCompile(`^[0-9a-f]{64}$`)
	tempName = regexp.MustCompile(`^[0-9a-f]{64}-tmp-[0-9a-f]+$`) // as the SFTP store names them
)

// whole tells whether a file has the content that its name promises.
func whole(name string, content []byte) bool {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:]) == name
}

// stored is what a server has.
type stored struct {
	dataBytes, packs, temps int
	cut, halfIndexes        int // packs and index files of a server that writes in place which are not whole
}

// sound reads every file on the server: what has the name of a file must be whole. Locks may
// be left where the test has killed their owners.
func (l *lab) sound(f *far) (s stored) {
	l.t.Helper()
	dir := f.stored(l.t)
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, name := strings.TrimPrefix(p, dir+"/"), d.Name()
		content, err := os.ReadFile(p)
		switch {
		case err != nil:
			return err
		case rel == "config":
		case tempName.MatchString(name):
			s.temps++
		case f.inPlace && strings.HasPrefix(rel, "data/") && !whole(name, content):
			s.cut++
		case f.inPlace && strings.HasPrefix(rel, "index/") && !whole(name, content):
			s.halfIndexes++
		case !fileName.MatchString(name) || !whole(name, content):
			l.t.Errorf("%s on the server is broken or no file of a repository: %d bytes", rel, len(content))
		case strings.HasPrefix(rel, "data/"):
			s.packs++
			s.dataBytes += len(content)
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// locks is how many locks are on the server.
func (l *lab) locks() int {
	l.t.Helper()
	return len(strings.Fields(l.vitrine("list", "locks")))
}

var someTree = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(base, "some")
	src := sample.GoEnv("GOROOT") + "/src/"
	if err := sample.Copy(dir, src+"net/http", src+"encoding"); err != nil {
		return "", err
	}
	return dir, addMade(filepath.Join(dir, "made"))
})

// fewFiles returns a directory of some hundred real files and the made ones: 40 MB, of which 17 are stored.
func fewFiles(t *testing.T) string {
	t.Helper()
	return built(t, someTree)
}

// eachRemote runs a test for servers of the given kinds, all at once whatever -parallel says: they mostly wait.
func eachRemote(t *testing.T, kinds []string, test func(t *testing.T, kind string)) {
	t.Helper()
	miniotest.Setenv(t)
	t.Setenv("RCLONE_CONFIG", "/dev/null")
	fewFiles(t)
	var wg sync.WaitGroup
	for _, kind := range kinds {
		wg.Go(func() { t.Run(kind, func(t *testing.T) { test(t, kind) }) })
	}
	wg.Wait()
}

// String is for logs.
func (s stored) String() string {
	return fmt.Sprintf("%d packs with %.1f MB, %d temporary files, %d packs and %d index files that are cut", s.packs, float64(s.dataBytes)/1e6,
		s.temps, s.cut, s.halfIndexes)
}
