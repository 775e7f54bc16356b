package accept

import (
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vitrine/repo/backend/rest/resttest"
	"vitrine/repo/backend/s3/miniotest"
	"vitrine/repo/backend/sftp/sshdtest"
)

const secret = "geheim-4711"

// remoteError is something that goes wrong with a server. It has its exit code and one line that says what, and what to
// do; no line has a secret in it.
type remoteError struct {
	prepare func(l *lab)
	args    string // "snapshots" when empty
	code    int
	words   []string
	most    time.Duration // that it may take; 0: nobody looks
}

func TestRemoteErrorsREST(t *testing.T) {
	testRemoteErrors(t, map[string]remoteError{
		"rest, wrong password": {
			prepare: func(l *lab) {
				l.repo = strings.Replace(resttest.Serve(l.t, l.dir+"/repo", "--user", "anna", "--pass", "right"), "http://", "rest:http://anna:"+secret+"@", 1)
			},
			code: 1, words: []string{"401", "VITRINE_REST_PASSWORD"},
		},
		"rest, not said": {
			prepare: func(l *lab) { l.repo = "http://anna:" + secret + "@127.0.0.1:1/" },
			code:    1, words: []string{"write rest:http://127.0.0.1:1/"},
		},
		"rest, no repository": {
			prepare: func(l *lab) { l.repo = "rest:" + resttest.Serve(l.t, l.dir+"/repo") },
			code:    10, words: []string{"vitrine init"},
		},
		"rest, certificate unknown": {
			prepare: func(l *lab) {
				s := quietTLS()
				l.t.Cleanup(s.Close)
				l.repo = strings.Replace(s.URL, "https://", "rest:https://anna:"+secret+"@", 1)
			},
			code: 1, words: []string{"certificate", "--cacert"},
		},
		"rest, no TLS": {
			prepare: func(l *lab) {
				l.repo = strings.Replace(resttest.Serve(l.t, l.dir+"/repo"), "http://", "rest:https://anna:"+secret+"@", 1)
			},
			code: 1, words: []string{"http://"},
		},
		"rest, TLS": {
			prepare: func(l *lab) {
				s := quietTLS()
				l.t.Cleanup(s.Close)
				l.repo = strings.Replace(s.URL, "https://", "rest:http://anna:"+secret+"@", 1)
			},
			code: 1, words: []string{"it speaks TLS", "https://"},
		},
		"rest, no such host": {
			prepare: func(l *lab) { l.repo = "rest:http://anna:" + secret + "@nosuch..invalid/" },
			code:    1, words: []string{"no such host: nosuch..invalid", "given up after"},
		},
	})
}

func TestRemoteErrorsS3(t *testing.T) {
	miniotest.Setenv(t)
	minio := miniotest.Start(t)
	testRemoteErrors(t, map[string]remoteError{
		"s3, wrong key": {
			prepare: func(l *lab) {
				l.repo = minio.Location("bucket")
				l.t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
			},
			code: 1, words: []string{"SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"},
		},
		"s3, unknown key": {
			prepare: func(l *lab) {
				l.repo = minio.Location("bucket")
				l.t.Setenv("AWS_ACCESS_KEY_ID", secret)
			},
			code: 1, words: []string{"InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"},
		},
		"s3, no bucket": {
			prepare: func(l *lab) { l.repo = minio.Location("missing") },
			code:    10, words: []string{"Fatal: repository does not exist: there is no such bucket. Is there a repository at the following location? s3:", "missing; `vitrine init` makes one"},
		},
		"s3, certificate unknown": {
			prepare: func(l *lab) {
				s := quietTLS()
				l.t.Cleanup(s.Close)
				l.repo = "s3:" + s.URL + "/bucket"
			},
			code: 1, words: []string{"certificate", "--cacert"},
		},
		"s3, keys in the location": {
			prepare: func(l *lab) { l.repo = "s3:http://anna:" + secret + "@" + minio.Addr + "/bucket" },
			code:    1, words: []string{"AWS_ACCESS_KEY_ID"},
		},
		"s3, disk full": {
			prepare: func(l *lab) {
				dir := l.dir + "/disk"
				smallDisk(l, dir, "16m")
				l.repo = miniotest.StartOn(l.t, dir+"/drive").Location("bucket")
				l.vitrine("init")
			},
			args: "backup --compression off --pack-size 4 " + fewFiles(t), code: 1, words: []string{"XMinioStorageFull", "make room"},
		},
	})
}

func TestRemoteErrorsSFTP(t *testing.T) {
	testRemoteErrors(t, map[string]remoteError{
		"sftp, password in the location": {
			prepare: func(l *lab) { l.repo = "sftp:anna:" + secret + "@host:/srv" },
			code:    1, words: []string{"password", "ssh-agent"},
		},
		"sftp, host key changed": {
			prepare: func(l *lab) { farServer(l).ChangeHostKey() },
			code:    1, words: []string{"host key has changed", "ssh-keygen ", " -R "},
		},
		"sftp, host key unknown": {
			prepare: func(l *lab) { farServer(l).ForgetHostKey() },
			code:    1, words: []string{"host key", "log in once with `ssh"},
		},
		"sftp, key refused": {
			prepare: func(l *lab) { farServer(l).ChangeUserKey() },
			code:    1, words: []string{"permission denied", "ssh-copy-id"},
		},
		"sftp, a file": {
			prepare: func(l *lab) {
				if err := os.WriteFile(l.repo, nil, 0o600); err != nil {
					l.t.Fatal(err)
				}
				farServer(l)
			},
			code: 1, words: []string{"not a directory"}, most: 20 * time.Second,
		},
		"sftp, no repository": {
			prepare: func(l *lab) { farServer(l) },
			code:    10, words: []string{"vitrine init"},
		},
		"sftp, disk full": {
			prepare: func(l *lab) {
				smallDisk(l, l.dir+"/repo", "4m")
				farServer(l)
				l.vitrine("init")
			},
			args: "backup --compression off --pack-size 4 " + fewFiles(t), code: 1, words: []string{"is full", "make room"},
		},
	})
}

func TestRemoteErrorsRclone(t *testing.T) {
	testRemoteErrors(t, map[string]remoteError{
		"rclone, secrets in the remote": {
			prepare: func(l *lab) {
				l.repo = `rclone::webdav,url="http://anna:` + secret + `@127.0.0.1:1/",pass="a,` + secret + `":path`
			},
			code: 1, words: []string{"rclone says", ":webdav:path", "decrypt password"},
		},
		"rclone, another program": {
			prepare: func(l *lab) {
				l.repo = "rclone:r:p"
				l.vitrineOptions = []string{"-o", "rclone.program=/bin/false"}
			},
			code: 1, words: []string{"/bin/false ended before it answered and said nothing", "exit status 1"},
		},
		"rclone behind a shell, secrets in the remote": {
			prepare: func(l *lab) {
				l.repo = `rclone::webdav,url="http://anna:` + secret + `@127.0.0.1:1/",pass="a,` + secret + `":path`
				l.vitrineOptions = []string{"-o", "rclone.program=env rclone"}
			},
			code: 1, words: []string{"rclone says", ":webdav:path", "decrypt password"},
		},
	})
}

func testRemoteErrors(t *testing.T, cases map[string]remoteError) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			c.prepare(l)
			args := strings.Fields(c.args)
			if c.args == "" {
				args = []string{"snapshots"}
			}
			began := time.Now()
			r := l.tryVitrine(args...)
			if took := time.Since(began); c.most > 0 && took > c.most {
				t.Errorf("it took %v", took)
			}
			line := strings.TrimSuffix(r.stderr, "\n")
			if r.code != c.code || strings.Contains(line, "\n") || len(line) > 700 {
				t.Errorf("want exit code %d and one line on standard error:\n%v", c.code, r)
			}
			for _, word := range c.words {
				if !strings.Contains(line, word) {
					t.Errorf("there is no %q in: %s", word, line)
				}
			}
			for _, s := range []string{secret, miniotest.Secret, "correct horse", ".go:"} {
				if strings.Contains(r.stdout+r.stderr, s) {
					t.Errorf("there is %q in: %s", s, r.stdout+r.stderr)
				}
			}
			t.Log(line)
		})
	}
}

// quietTLS is a server whose certificate nobody knows.
func quietTLS() *httptest.Server {
	s := httptest.NewUnstartedServer(nil)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // that clients turn away is what is wanted
	s.StartTLS()
	return s
}

// farServer puts the lab's repository behind an sshd.
func farServer(l *lab) *sshdtest.Server {
	s := sshdtest.Start(l.t)
	l.repo = s.Location(l.repo)
	l.vitrineOptions = []string{"-o", "sftp.args=" + strings.Join(s.Args(), " ")}
	return s
}

// smallDisk mounts a file system in memory.
func smallDisk(l *lab, dir, size string) {
	l.t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { detach(dir) })
}

// A server that lets nobody delete or replace is enough for backups.
func TestAppendOnlyServer(t *testing.T) {
	l := newLab(t)
	l.repo = "rest:" + resttest.Serve(t, l.dir+"/repo", "--append-only")
	l.vitrine("init")
	for range 2 {
		l.vitrine("backup", "--force", fewFiles(t))
	}
	before := l.vitrine("list", "packs") + l.vitrine("list", "index")
	local := *l
	local.repo = l.dir + "/repo"
	for _, id := range strings.Fields(local.vitrine("list", "snapshots"))[:1] {
		if err := os.Remove(local.repo + "/snapshots/" + id); err != nil {
			t.Fatal(err)
		}
	}
	r := l.tryVitrine("prune", "--max-unused", "0")
	if r.code != 1 || !strings.Contains(r.stderr, "nothing is changed") || !strings.Contains(r.stderr, "append-only") || strings.Contains(r.stdout, "repack packs") {
		t.Errorf("prune: %v", r)
	}
	if after := l.vitrine("list", "packs") + l.vitrine("list", "index"); after != before {
		t.Errorf("prune has changed something: %s\n%s", before, after)
	}
	l.vitrine("check", "--read-data")
	if n := l.locks(); n != 0 {
		t.Errorf("%d locks stay", n)
	}
}

// Credentials are seen neither in the list of processes nor in what a mount tells.
func TestRemoteSecretsStaySecret(t *testing.T) {
	miniotest.Setenv(t)
	minio := miniotest.Start(t)
	bucket := fmt.Sprintf("bucket%d", os.Getpid()) // by which rclone is found
	for name, location := range map[string]string{
		"rest": strings.Replace(resttest.Serve(t, t.TempDir(), "--user", "anna", "--pass", secret), "http://", "rest:http://anna:"+secret+"@", 1),
		"s3":   minio.Location("bucket"),
		"rclone": fmt.Sprintf(`rclone::s3,provider=Minio,access_key_id=%s,secret_access_key="%s",endpoint="http://anna:%s@%s":%s`,
			miniotest.Key, miniotest.Secret, secret, minio.Addr, bucket),
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			// On the command line the location would be seen by everybody.
			l.repo = ""
			file := l.dir + "/location"
			write(t, file, location+"\n")
			l.vitrineOptions = []string{"--repository-file", file}
			l.vitrine("init")
			l.vitrine("backup", fewFiles(t))
			m := l.mount("-v")
			status, err := os.ReadFile(m.dir + "/.vitrine/status")
			if err != nil {
				t.Fatal(err)
			}
			mounts, err := os.ReadFile("/proc/mounts")
			if err != nil {
				t.Fatal(err)
			}
			seen := map[string]string{"status": string(status), "/proc/mounts": string(mounts), "ps": processes(t, binary), "ps, rclone": processes(t, bucket)}
			if name == "rclone" && seen["ps, rclone"] == "" {
				t.Error("there is no rclone where it is looked for")
			}
			if !strings.Contains(seen["ps"], m.dir) || !strings.Contains(seen["/proc/mounts"], m.dir) {
				t.Error("the mount is not where it is looked for")
			}
			m.cmd.Process.Signal(syscall.SIGUSR1)
			m.stop()
			seen["log of the mount"] = m.log.String()
			for where, text := range seen {
				for _, s := range []string{secret, miniotest.Secret, miniotest.Key, "correct horse"} {
					if strings.Contains(text, s) {
						t.Errorf("%q stands in %s:\n%s", s, where, clip(text))
					}
				}
			}
		})
	}
}

// processes returns the command lines of all processes that run a program.
func processes(t *testing.T, program string) string {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, name := range names {
		content, _ := os.ReadFile(name) // it may have ended
		if strings.Contains(string(content), program) {
			all = append(all, strings.ReplaceAll(string(content), "\x00", " "))
		}
	}
	return strings.Join(all, "\n")
}
