package fs

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAwake(t *testing.T) {
	path := filepath.Join(t.TempDir(), "latency")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// held tells whether this process has the file open.
	held := func() bool {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, path) {
				return true
			}
		}
		return false
	}
	synctest.Test(t, func(t *testing.T) {
		a := newAwake(path)
		if a == nil || held() {
			t.Fatal("not ready, or held already")
		}
		go a.run(t.Context())
		requests := func(perLook, looks int) {
			for range looks {
				for range perLook {
					a.note()
				}
				time.Sleep(awakeLook)
				synctest.Wait()
			}
		}
		requests(5, 100)
		if held() {
			t.Error("held for few requests")
		}
		requests(100, 5)
		if !held() {
			t.Error("not held while requests come in a row")
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, make([]byte, 4)) {
			t.Errorf("written: %v, %v", got, err)
		}
		requests(awakeRush-1, awakeCalm+1)
		if held() {
			t.Error("held when it is calm")
		}
		requests(100, 5)
		if !held() {
			t.Error("not held the second time")
		}
	})
	if held() {
		t.Error("held after the end")
	}
	if a := newAwake(filepath.Join(t.TempDir(), "missing")); a != nil {
		t.Error("a file that is not there can be held")
	}
	var none *awake
	none.note()
	none.run(t.Context())
}
