package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/sync/errgroup"

	"vitrine/scripts/internal/line"
	"vitrine/scripts/internal/sample"
)

// The line of the section far. The latency is that of a round trip.
const (
	lineLatency = 50 * time.Millisecond
	lineBytes   = 100_000_000 // a second
)

// remote is a server at the other end of a line.
type remote struct {
	name string
	line *line.Line
	// location is where the repository of that name is, as both programs want it.
	location func(repo string) string
	options  map[string][]string                               // by program
	upload   func(ctx context.Context, dir, repo string) error // makes a repository there, past the line
	remove   func(ctx context.Context, repo string) error      // and takes it away
	stop     func() error                                      // ends the server and the line
}

// startServer runs a server and waits until it answers.
func startServer(cmd *exec.Cmd, ready func() error) (stop func() error, err error) {
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.WaitDelay = time.Second // sessions of sshd keep its standard error open
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w; run make setup", err)
	}
	stop = func() error {
		err := cmd.Process.Kill()
		cmd.Wait() // it was killed: how it ends is known
		return err
	}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err := ready()
		if err == nil {
			return stop, nil
		}
		if time.Since(began) > time.Minute {
			stop()
			return nil, fmt.Errorf("%s does not answer: %w\n%s", cmd.Path, err, clip(log.String()))
		}
	}
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

const s3Key, s3Secret, s3Bucket = "vitrine-bench", "not-a-secret-of-the-bench", "far"

// startS3 runs a MinIO with its objects below dir.
func startS3(ctx context.Context, dir string) (*remote, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": s3Key, "AWS_SECRET_ACCESS_KEY": s3Secret, "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": ""} {
		if err := os.Setenv(name, value); err != nil {
			return nil, err
		}
	}
	program := filepath.Join(filepath.SplitList(sample.GoEnv("GOPATH"))[0], "vitrine-tools", "minio")
	cmd := exec.Command(program, "server", "--quiet", "--address", addr, "--certs-dir", dir+"/certs", dir+"/drive")
	cmd.Env = []string{"HOME=" + dir, "TMPDIR=" + dir, "MINIO_ROOT_USER=" + s3Key, "MINIO_ROOT_PASSWORD=" + s3Secret, "MINIO_BROWSER=off", "MINIO_UPDATE=off"}
	client, err := minio.New(addr, &minio.Options{Creds: credentials.NewStaticV4(s3Key, s3Secret, "")})
	if err != nil {
		return nil, err
	}
	stop, err := startServer(cmd, func() error {
		resp, err := http.Get("http://" + addr + "/minio/health/cluster")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				err = errors.New(resp.Status)
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	l, err := line.New(addr, lineLatency, lineBytes, isPoll)
	if err == nil {
		err = client.MakeBucket(ctx, s3Bucket, minio.MakeBucketOptions{})
	}
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return &remote{
		name: "S3", line: l,
		location: func(repo string) string { return "s3:http://" + l.Addr() + "/" + s3Bucket + "/" + repo },
		upload:   func(ctx context.Context, dir, repo string) error { return uploadS3(ctx, client, dir, repo) },
		remove: func(ctx context.Context, repo string) error {
			return client.RemoveObject(ctx, s3Bucket, repo+"/", minio.RemoveObjectOptions{ForceDelete: true})
		},
		stop: func() error { return errors.Join(l.Close(), stop()) },
	}, nil
}

// isPoll tells whether a request lists the snapshots or index files. A mount of vitrine looks for new ones every three
// seconds, whether somebody reads or not.
func isPoll(head []byte) bool {
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	return bytes.Contains(line, []byte("?")) && bytes.Contains(line, []byte("list-type=")) &&
		(bytes.Contains(line, []byte("snapshots%2F")) || bytes.Contains(line, []byte("index%2F")))
}

// uploadS3 puts the files below dir into the bucket.
func uploadS3(ctx context.Context, client *minio.Client, dir, prefix string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		group.Go(func() error {
			_, err := client.FPutObject(ctx, s3Bucket, prefix+strings.TrimPrefix(p, dir), p, minio.PutObjectOptions{DisableMultipart: true})
			return err
		})
		return nil
	})
	return errors.Join(err, group.Wait())
}

// startSFTP runs an sshd with keys of its own below dir, where the repositories are, too.
func startSFTP(ctx context.Context, dir string) (*remote, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	for _, key := range []string{"host", "user"} {
		if out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", dir+"/"+key).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	public, err := os.ReadFile(dir + "/host.pub")
	if err != nil {
		return nil, err
	}
	config := strings.Join([]string{
		"ListenAddress " + addr, "HostKey " + dir + "/host", "AuthorizedKeysFile " + dir + "/user.pub", "PidFile none", "StrictModes no",
		"UsePAM no", "PasswordAuthentication no", "KbdInteractiveAuthentication no", "Subsystem sftp internal-sftp", "",
	}, "\n")
	err = errors.Join(
		os.MkdirAll("/run/sshd", 0o755), // where sshd wants to lock up those who are not logged in yet
		os.WriteFile(dir+"/sshd_config", []byte(config), 0o600),
		os.WriteFile(dir+"/known_hosts", append([]byte("bench "), public...), 0o600))
	if err != nil {
		return nil, err
	}
	stop, err := startServer(exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", dir+"/sshd_config"), func() error {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	l, err := line.New(addr, lineLatency, lineBytes, nil)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	args := "-F none -oIdentitiesOnly=yes -oIdentityAgent=none -oGlobalKnownHostsFile=none -oHostKeyAlias=bench -i " + dir + "/user -oUserKnownHostsFile=" + dir + "/known_hosts"
	_, port, _ := net.SplitHostPort(l.Addr())
	return &remote{
		name: "SFTP", line: l,
		location: func(repo string) string { return "sftp://root@" + l.Addr() + "/" + dir + "/" + repo },
		options: map[string][]string{
			"restic":  {"-o", "sftp.command=ssh " + args + " -p " + port + " root@127.0.0.1 -s sftp"},
			"vitrine": {"-o", "sftp.args=" + args},
		},
		upload: func(ctx context.Context, from, repo string) error {
			if out, err := exec.CommandContext(ctx, "cp", "-a", from, dir+"/"+repo).CombinedOutput(); err != nil {
				return fmt.Errorf("cp: %w: %s", err, out)
			}
			return nil
		},
		remove: func(_ context.Context, repo string) error { return os.RemoveAll(dir + "/" + repo) },
		stop:   func() error { return errors.Join(l.Close(), stop()) },
	}, nil
}
