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
// section 8.
type Info struct {
	Time      time.Time `json:"time"` // when it was made; a refresh makes a new one
	Exclusive bool      `json:"exclusive"`
	Hostname  string    `json:"hostname"`
	Username  string    `json:"username"`
	PID       int       `json:"pid"`
	UID       uint32    `json:"uid,omitempty"`
	GID       uint32    `json:"gid,omitempty"`

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
	info := Info{PID: os.Getpid(), UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	info.Hostname, _ = os.Hostname() // without a name the age alone tells a stale lock
	if u, err := user.Current(); err == nil {
		info.Username = u.Username
	}
	return info
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
	if now.Sub(i.Time) > staleAfter {
		return true
	}
	if hostname == "" || i.Hostname != hostname || i.PID <= 0 {
		return false
	}
	start, alive := started(i.PID)
	return !alive || start.After(i.Time.Add(startSlack))
}

// began is when this process started, as far as this package can tell.
var began = time.Now()

// processStart returns when the process began, or false when there is none of that number. When
// there is one but its start cannot be told, the start is the zero time.
func processStart(pid int) (time.Time, bool) {
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return time.Time{}, false
	}
	theirs, err := startTicks(pid)
	if err != nil {
		return time.Time{}, true
	}
	ours, err := startTicks(os.Getpid())
	if err != nil {
		return time.Time{}, true
	}
	// Not by way of the boot time, which containers like to lie about.
	return began.Add(time.Duration(theirs-ours) * tick), true
}

// tick is the unit of times in /proc/<pid>/stat.
const tick = 10 * time.Millisecond

// startTicks returns the start of a process, in ticks since some moment all processes share.
func startTicks(pid int) (int64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStartTicks(string(stat))
}

// parseStartTicks finds field 22 of /proc/<pid>/stat; field 2 is the name of the program in
// parentheses, and may hold anything.
func parseStartTicks(stat string) (int64, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const first, wanted = 3, 22 // fields[0] is field 3
	if len(fields) <= wanted-first {
		return 0, errors.New("too few fields")
	}
	return strconv.ParseInt(fields[wanted-first], 10, 64)
}
