package fs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Users other than root mount through the set-uid program fusermount3. It is started here and not by
// go-fuse, so that what it says gets into the error: go-fuse leaves it on standard error, and tells only a
// wait status.

const (
	fuseDevice = "/dev/fuse"
	fuseConf   = "/etc/fuse.conf"
)

// fusermountProgram finds fusermount3, or fusermount of the older libfuse.
func fusermountProgram() (string, error) {
	for _, name := range []string{"fusermount3", "/bin/fusermount3", "fusermount", "/bin/fusermount"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("fusermount3 is not there, through which users other than root mount; install it (the package is called fuse3)")
}

// fusermount mounts on dir and returns the connection to the kernel, which no child inherits.
func fusermount(dir string, o *fuse.MountOptions) (int, error) {
	program, err := fusermountProgram()
	if err != nil {
		return -1, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	var said bytes.Buffer
	cmd := exec.Command(program, "-o", helperOptions(o), "--", dir)
	cmd.Env = []string{"_FUSE_COMMFD=3"} // the first of ExtraFiles
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = &said
	err = cmd.Run()
	theirs.Close() // so that an end without a message is seen
	if err != nil {
		return -1, refused(program, said.String(), o.AllowOther, err)
	}
	return receive(ours)
}

// helperOptions are those of go-fuse for fusermount, which takes a backslash before a comma in a value.
func helperOptions(o *fuse.MountOptions) string {
	list := append([]string{}, o.Options...)
	if o.AllowOther {
		list = append(list, "allow_other")
	}
	list = append(list, "fsname="+o.FsName, "subtype="+o.Name, fmt.Sprintf("max_read=%d", o.MaxWrite))
	for i, option := range list {
		list[i] = strings.NewReplacer(`\`, `\\`, ",", `\,`).Replace(option)
	}
	return strings.Join(list, ",")
}

// receive takes the descriptor that fusermount sent.
func receive(from *os.File) (int, error) {
	conn, err := net.FileConn(from)
	if err != nil {
		return -1, err
	}
	defer conn.Close()
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.(*net.UnixConn).ReadMsgUnix(make([]byte, 4), control) // sets close-on-exec
	if err != nil {
		return -1, fmt.Errorf("receive the descriptor from fusermount: %w", err)
	}
	messages, err := syscall.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return -1, errors.New("fusermount sent no descriptor")
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.New("fusermount sent no descriptor")
	}
	return fds[0], nil
}

// refused makes the error of a fusermount that failed: its own words, and what to do.
func refused(program, said string, allowOther bool, err error) error {
	said = strings.Join(strings.FieldsFunc(said, func(r rune) bool { return r == '\n' }), "; ")
	said = strings.TrimPrefix(said, program+": ")
	err = fmt.Errorf("%s: %w", program, errors.New(cmp.Or(said, err.Error())))
	conf, confErr := os.ReadFile(fuseConf)
	if confErr != nil {
		conf = nil // no file is an empty one
	}
	device := deviceAdvice()
	switch {
	case device != "":
		return fmt.Errorf("%w; %s", err, device)
	case allowOther && strings.Contains(said, "allow_other") && !allowsOther(conf):
		return fmt.Errorf("%w; let root add that line to %s, or leave --allow-other out", err, fuseConf)
	}
	return err
}

// allowsOther tells whether fuse.conf lets users mount for others.
func allowsOther(conf []byte) bool {
	for line := range strings.Lines(string(conf)) {
		if strings.TrimSpace(line) == "user_allow_other" {
			return true
		}
	}
	return false
}

// deviceAdvice says what is wrong with /dev/fuse and what to do; "" when it can be opened.
func deviceAdvice() string {
	f, err := os.OpenFile(fuseDevice, os.O_RDWR, 0)
	switch {
	case err == nil:
		f.Close()
		return ""
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fuseDevice + " is missing: load the kernel module with `modprobe fuse`, or give the container the device (--device /dev/fuse --cap-add SYS_ADMIN)"
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fuseDevice + " may not be opened: let root run `chmod 666 /dev/fuse`, or give the container the device (--device /dev/fuse --cap-add SYS_ADMIN)"
	}
	return fmt.Sprintf("%s cannot be opened: %v", fuseDevice, err)
}

// rootAdvice adds to the error of a mount by root what to do.
func rootAdvice(err error) error {
	if device := deviceAdvice(); device != "" {
		return fmt.Errorf("%w; %s", err, device)
	}
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w; root may not mount here: give the container the right to (--cap-add SYS_ADMIN)", err)
	}
	return err
}
