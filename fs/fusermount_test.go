package fs

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// devScript gives a mount namespace a /dev with nothing but what the next lines put there.
const devScript = `
mount --make-rprivate /
mkdir dev; mount -t tmpfs -o mode=755 tmpfs dev; mknod dev/null c 1 3; chmod 666 dev/null
mknod dev/fuse c 10 229; chmod 666 dev/fuse
mkdir dev/shm; mount --bind /dev/shm dev/shm # where the tests work
mount --rbind dev /dev
nobody="setpriv --reuid=65534 --regid=65534 --clear-groups"
`

// Who may not mount is told by the system why, and by us what to do.
func TestMountAdvice(t *testing.T) {
	for _, tc := range []struct {
		name, mode, script string
		want               []string // begin of the line, and what it contains
	}{
		{"ready", "serve", "$nobody ./program mnt </dev/null", []string{"ready"}},
		{"no device for a user", "serve", "rm /dev/fuse; $nobody ./program mnt",
			[]string{"mount ", "fusermount3: fuse device not found", "; /dev/fuse is missing: load the kernel module"}},
		{"closed device", "serve", "chmod 600 /dev/fuse; $nobody ./program mnt",
			[]string{"mount ", "fusermount3: failed to open /dev/fuse: Permission denied; /dev/fuse may not be opened: let root"}},
		{"no program", "serve", "mount --bind /dev/null /usr/bin/fusermount3; $nobody ./program mnt",
			[]string{"mount ", "fusermount3 is not there", "install it"}},
		{"others", "serve others", "echo '#user_allow_other' >conf; mount --bind conf /etc/fuse.conf; $nobody ./program mnt",
			[]string{"mount ", "fusermount3: option allow_other only allowed if 'user_allow_other' is set", "; let root add that line to /etc/fuse.conf, or leave --allow-other out"}},
		{"others may", "serve others", "echo user_allow_other >conf; mount --bind conf /etc/fuse.conf; $nobody ./program mnt </dev/null", []string{"ready"}},
		{"not the user's directory", "serve", "chown 0:0 mnt; chmod 755 mnt; $nobody ./program mnt",
			[]string{"mount ", "fusermount3: user has no write access to mountpoint"}},
		{"no device for root", "serve", "rm /dev/fuse; ./program mnt",
			[]string{"mount ", "no such file or directory; /dev/fuse is missing"}},
		{"root in a container", "serve", "setpriv --bounding-set=-sys_admin ./program mnt",
			[]string{"mount ", "operation not permitted; root may not mount here: give the container the right to"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := workDir(t)
			sh(t, dir, "chmod 755 .; cp '"+os.Args[0]+"' program; chmod 755 program; mkdir mnt; chown 65534:65534 mnt")
			cmd := exec.Command("unshare", "--mount", "bash", "-c", devScript+tc.script)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), childEnv+"="+tc.mode, "LC_ALL=C")
			out, _ := cmd.CombinedOutput() // it fails where that is wanted
			text, isLine := strings.CutSuffix(string(out), "\n")
			if !isLine || strings.Contains(text, "\n") || !strings.HasPrefix(text, tc.want[0]) {
				t.Errorf("%q is not one line that begins with %q", out, tc.want[0])
			}
			for _, part := range tc.want[1:] {
				if !strings.Contains(text, part) {
					t.Errorf("%q is not in %q", part, text)
				}
			}
		})
	}
}

func TestHelperOptions(t *testing.T) {
	given := Options{AllowOther: true, RepoName: `/srv/a,b\c`}
	given.setDefaults()
	o := mountOptions(&given)
	want := `ro,default_permissions,allow_other,fsname=/srv/a\,b\\c,subtype=vitrine,max_read=1048576`
	if got := helperOptions(o); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := helperOptions(&fuse.MountOptions{FsName: "f", Name: "n"}); got != "fsname=f,subtype=n,max_read=0" {
		t.Error(got)
	}
}

func TestAllowsOther(t *testing.T) {
	for conf, want := range map[string]bool{
		"": false, "user_allow_other": true, "# x\n user_allow_other \nmount_max = 7\n": true, "#user_allow_other\n": false, "user_allow_others\n": false,
	} {
		if got := allowsOther([]byte(conf)); got != want {
			t.Errorf("%q: %v", conf, got)
		}
	}
}
