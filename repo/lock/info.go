package lock

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"vitrine/repo/blob"
)

// Info is what a lock file tells. Its JSON, with the fields in this order, is FORMAT.md
// section 8, but for those that only vitrine writes.
type Info struct {
	Time      time.Time `json:"time"` // when it was made; a refresh makes a new one
	Exclusive bool      `json:"exclusive"`
	Hostname  string    `json:"hostname"`
	Username  string    `json:"username"`
	PID       int       `json:"pid"`
	UID       uint32    `json:"uid,omitempty"`
	GID       uint32    `json:"gid,omitempty"`
	// PIDSpace is where PID counts: a boot of a kernel and a PID namespace in it. Only vitrine writes it, others
	// pass over it. "" is not known.
	PIDSpace string `json:"pid_space,omitempty"`
	// Backup is Options.Backup. Only vitrine writes it.
	Backup bool `json:"backup,omitempty"`
	// Backwards is the direction of a backup; see Lock.Backwards. Only vitrine writes it.
	Backwards bool `json:"backwards,omitempty"`

	ID blob.ID `json:"-"` // the name of the file
}

// decode reads the plain text of a lock file.
func decode(p []byte) (Info, error) {
	var info Info
	if err := json.Unmarshal(p, &info); err != nil {
		return Info{}, err
	}
	if info.Time.IsZero() {
		return Info{}, errors.New("it has no time")
	}
	return info, nil
}

func (i Info) encode() ([]byte, error) { return json.Marshal(i) }

// identity is who takes locks here.
func identity() Info {
	info := Info{PID: os.Getpid(), UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), PIDSpace: pidSpace()}
	info.Hostname, _ = os.Hostname() // without a name the age alone tells a stale lock
	if u, err := user.Current(); err == nil {
		info.Username = u.Username
	}
	return info
}

// pidSpace returns what Info.PIDSpace is for this process.
func pidSpace() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + "/" + namespace
}

// staleAfter is the age at which a lock counts as left behind.
const staleAfter = 30 * time.Minute

// startSlack is how much the clocks behind the start of a process and the time in a lock may differ.
const startSlack = time.Minute

// stale reports whether the holder seems to be gone: the lock is old, or it was taken on this
// host by a process that has ended. A process that now has the number but began after
// the lock was made is another one.
//
// Two machines (or containers) with one host name make the second rule wrong, a wrong clock the first. So a
// stale lock still counts; only Unlock, a person's decision, removes it.
func (i Info) stale(now time.Time, hostname string, started func(pid int) (time.Time, bool)) bool {
	return now.Sub(i.Time) > staleAfter || i.ended(hostname, started)
}

// ended reports whether the lock was taken on a host of that name by a process that has ended.
func (i Info) ended(hostname string, started func(pid int) (time.Time, bool)) bool {
	if hostname == "" || i.Hostname != hostname || i.PID <= 0 {
		return false
	}
	start, alive := started(i.PID)
	return !alive || start.After(i.Time.Add(startSlack))
}

// began is when this process started, as far as this package can tell.
var began = time.Now()

// processStart returns when the process began, or false when there is none of that number, or only
// its remains. When there is one but its start cannot be told, the start is the zero time.
func processStart(pid int) (time.Time, bool) {
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return time.Time{}, false
	}
	theirs, err := readStat(pid)
	if err != nil {
		return time.Time{}, true
	}
	if theirs.state == "Z" || theirs.state == "X" {
		return time.Time{}, false // ended, and nobody has asked for its exit code
	}
	ours, err := readStat(os.Getpid())
	if err != nil {
		return time.Time{}, true
	}
	// Not by way of the boot time, which containers like to lie about.
	return began.Add(time.Duration(theirs.startTicks-ours.startTicks) * tick), true
}

// tick is the unit of times in /proc/<pid>/stat.
const tick = 10 * time.Millisecond

// stat is a part of /proc/<pid>/stat.
type stat struct {
	state      string // field 3
	startTicks int64  // field 22, since some moment that all processes share
}

func readStat(pid int) (stat, error) {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	return parseStat(string(line))
}

// parseStat splits the line at its blanks; field 2 is the name of the program in parentheses, and
// may hold anything.
func parseStat(line string) (stat, error) {
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	const first, start = 3, 22 // fields[0] is field 3
	if len(fields) <= start-first {
		return stat{}, errors.New("too few fields")
	}
	ticks, err := strconv.ParseInt(fields[start-first], 10, 64)
	return stat{fields[0], ticks}, err
}
