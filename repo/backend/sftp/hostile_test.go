package sftp_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	pkgsftp "github.com/pkg/sftp"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/sftp"
)

// hostileServer, in the environment, makes the test binary an SFTP server all of whose files have a size
// that does not fit into 63 bits.
const hostileServer = "VITRINE_TEST_HOSTILE_SFTP"

func serveHostile() {
	h := hostile{}
	s := pkgsftp.NewRequestServer(stdio{os.Stdin, os.Stdout}, pkgsftp.Handlers{FileGet: h, FilePut: h, FileCmd: h, FileList: h})
	_ = s.Serve() // it ends with its input
}

// hostile are the answers of that server.
type hostile struct{}

var hostileFile = backendtest.FileOf(backend.Index, []byte("x"))

func (hostile) Fileread(*pkgsftp.Request) (io.ReaderAt, error) {
	return bytes.NewReader([]byte("content")), nil
}
func (hostile) Filewrite(*pkgsftp.Request) (io.WriterAt, error) { return nil, fs.ErrPermission }
func (hostile) Filecmd(*pkgsftp.Request) error                  { return fs.ErrPermission }
func (hostile) Filelist(r *pkgsftp.Request) (pkgsftp.ListerAt, error) {
	if r.Method == "List" {
		return lister{hostileInfo(hostileFile.Name)}, nil
	}
	return lister{hostileInfo(path.Base(r.Filepath))}, nil
}

type lister []fs.FileInfo

func (l lister) ListAt(to []fs.FileInfo, from int64) (int, error) {
	if from >= int64(len(l)) {
		return 0, io.EOF
	}
	return copy(to, l[from:]), nil
}

// hostileInfo is a file, or the directory of the repository.
type hostileInfo string

func (i hostileInfo) Name() string       { return string(i) }
func (i hostileInfo) Size() int64        { return -1 }
func (i hostileInfo) ModTime() time.Time { return time.Time{} }
func (i hostileInfo) IsDir() bool        { return i == "repo" }
func (i hostileInfo) Sys() any           { return nil }
func (i hostileInfo) Mode() fs.FileMode {
	if i.IsDir() {
		return fs.ModeDir | 0o700
	}
	return 0o600
}

// A size is a uint64 on the wire. One that is no int64 is an error of the call, whatever it is asked for.
func TestImpossibleSizes(t *testing.T) {
	cfg := plain(t, "/repo")
	cfg.Command[1] = hostileServer + "=1"
	be, err := sftp.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	if content, err := be.ReadAll(t.Context(), hostileFile, 1<<20); !errors.Is(err, backend.ErrTooBig) {
		t.Errorf("ReadAll: %q, %v, want one of class ErrTooBig", content, err)
	}
	if info, err := be.Stat(t.Context(), hostileFile); err == nil || !strings.Contains(err.Error(), "size") {
		t.Errorf("Stat: %+v, %v", info, err)
	}
	err = be.List(t.Context(), backend.Index, func(info backend.Info) error {
		t.Errorf("List tells of %+v", info)
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "size") || !strings.Contains(err.Error(), hostileFile.Name) {
		t.Errorf("List: %v", err)
	}
	if err := be.ReadAt(t.Context(), hostileFile, nil, 5); !errors.Is(err, backend.ErrShort) {
		t.Errorf("ReadAt of nothing: %v", err)
	}
}
