package progress

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/archive"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// halfDone reports a backup of two files of which one is read in part, after a minute.
func halfDone(p *Printer) *Backup {
	b := NewBackup(p)
	b.Scanned(archive.Total{Files: 3, Bytes: 400}, false)
	b.Done(archive.Item{Dir: "/d", Name: "same", Type: snapshot.File, Change: archive.Unmodified, SizeBytes: 50})
	b.Started("/d", "new", 100)
	b.Read(100)
	time.Sleep(30 * time.Second)
	b.Done(archive.Item{Dir: "/d", Name: "new", Type: snapshot.File, Change: archive.New, SizeBytes: 100, DataBytes: 100, DataStoredBytes: 60})
	b.Done(archive.Item{Dir: "/", Name: "link", Type: snapshot.Symlink, Change: archive.New})
	b.Done(archive.Item{Dir: "", Name: "d", Type: snapshot.Dir, Change: archive.Changed, TreeBytes: 9, TreeStoredBytes: 7})
	b.Started("/d", "zzz", 200)
	b.Started("/d", "big", 200)
	b.Read(50)
	time.Sleep(30 * time.Second)
	return b
}

// TestBackupStores: when nothing is read any more, what is still on its way to the store is told.
func TestBackupStores(t *testing.T) {
	var out bytes.Buffer
	b := NewBackup(New(Options{Stdout: &out, Stderr: &out}))
	left := int64(3 << 20)
	b.Storing(func() int64 { return left })
	b.Started("/d", "f", 100)
	for range 2 {
		b.Read(50)
		if got, want := b.Status(), "0 files, "; !strings.HasPrefix(got, want) || strings.Contains(got, "on the way") {
			t.Errorf("status %q while a file is read", got)
		}
	}
	b.Done(archive.Item{Dir: "/d", Name: "f", Type: snapshot.File, Change: archive.New, SizeBytes: 100})
	if got, want := b.Status(), "1 files, 100 B; all is read, 3.000 MiB on the way to the store"; got != want {
		t.Errorf("status %q, want %q", got, want)
	}
	if left = 0; strings.Contains(b.Status(), "on the way") {
		t.Errorf("status %q with nothing left", b.Status())
	}
}

// TestBackupOutgrows: a guess of the totals that was too low grows with what is done, and is not taken for certain any more.
func TestBackupOutgrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		b := NewBackup(New(Options{Stdout: &out, Stderr: &out, Verbose: 1}))
		b.Scanned(archive.Total{Files: 1, Bytes: 100, Guessed: true}, false)
		for _, step := range []struct {
			files, total uint64
			share        float64
			certain      bool
		}{{1, 100, 0.6, true}, {2, 120, 1, false}, {3, 180, 1, false}} {
			time.Sleep(time.Second)
			b.Done(archive.Item{Dir: "/d", Name: "f", Type: snapshot.File, Change: archive.Unmodified, SizeBytes: 60})
			m := b.Message().(statusMessage)
			if m.TotalFiles != step.files || m.TotalBytes != step.total || m.PercentDone != step.share || m.FilesDone != step.files {
				t.Errorf("after %d files: %+v", step.files, m)
			}
			if got := !strings.Contains(b.Status(), "found so far"); got != step.certain {
				t.Errorf("after %d files: %s", step.files, b.Status())
			}
		}
		b.Scanned(archive.Total{Files: 3, Bytes: 180}, true)
		if got, want := out.String(), "scan finished in 3.000s: 3 files, 180 B\n"; got != want {
			t.Errorf("printed %q, want %q: a guess is no scan", got, want)
		}
	})
}

// TestBackupShare: what is on its way to the store is not done, and the share does not go back when more is.
func TestBackupShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBackup(New(Options{}))
		going := int64(300)
		b.Storing(func() int64 { return going })
		b.Scanned(archive.Total{Files: 1, Bytes: 400}, true)
		if got := b.Rate(); got != "" {
			t.Errorf("rate %q with nothing done", got)
		}
		b.Read(400)
		time.Sleep(10 * time.Second)
		for _, c := range []struct {
			going int64
			done  uint64
			rate  string
		}{{300, 100, "10.0 B/s, 0:30 left"}, {100, 300, "30.0 B/s, 0:03 left"}, {200, 300, "20.0 B/s, 0:10 left"}, {1000, 300, ""}, {0, 400, "40.0 B/s"}} {
			going = c.going
			if done, total := b.Share(); done != c.done || total != 400 || b.Rate() != c.rate {
				t.Errorf("%d on the way: %d of %d, %s; want %d, %s", going, done, total, b.Rate(), c.done, c.rate)
			}
		}
	})
}

func TestBackupView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out, errOut bytes.Buffer
		b := halfDone(New(Options{Stdout: &out, Stderr: &errOut}))
		if done, total := b.Share(); done != 200 || total != 400 {
			t.Errorf("%d of %d", done, total)
		}
		if got, want := b.Status(), "2 files, 200 B of 3 files, 400 B found so far"; got != want {
			t.Errorf("status %q, want %q", got, want)
		}
		if got, want := b.Rate(), "3.3 B/s"; got != want {
			t.Errorf("rate %q, want %q: no time left before the scan is done", got, want)
		}
		b.Scanned(archive.Total{Files: 3, Bytes: 400}, true)
		if got, want := b.Rate(), "3.3 B/s, 1:00 left"; got != want {
			t.Errorf("rate %q, want %q", got, want)
		}
		if diff := cmp.Diff([]string{"/d/big", "/d/zzz"}, b.Current()); diff != "" {
			t.Error(diff)
		}
		b.Error("/d/x", errors.New("read /d/x: permission denied"))
		if got, want := b.Status(), "2 files, 200 B of 3 files, 400 B, 1 errors"; got != want {
			t.Errorf("status %q, want %q", got, want)
		}
		if out.Len() > 0 || errOut.String() != "error: read /d/x: permission denied\n" {
			t.Errorf("%q and %q", out.String(), errOut.String())
		}
		want := statusMessage{MessageType: "status", SecondsElapsed: 60, SecondsRemaining: 60, PercentDone: 0.5,
			TotalFiles: 3, FilesDone: 2, TotalBytes: 400, BytesDone: 200, ErrorCount: 1, CurrentFiles: []string{"/d/big", "/d/zzz"}}
		if diff := cmp.Diff(any(want), b.Message()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestBackupItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out, errOut bytes.Buffer
		b := halfDone(New(Options{Stdout: &out, Stderr: &errOut, Verbose: 2}))
		b.Scanned(archive.Total{Files: 3, Bytes: 400}, true)
		want := strings.Join([]string{
			"unchanged /d/same",
			"new       /d/new, saved in 30.000s (100 B added, 60 B stored)",
			"modified  /d/, saved in 0.000s (0 B added, 0 B stored, 7 B metadata)",
			"scan finished in 60.000s: 3 files, 400 B",
			"",
		}, "\n")
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestBackupItemsJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out, errOut bytes.Buffer
		b := halfDone(New(Options{Stdout: &out, Stderr: &errOut, Verbose: 2, JSON: true}))
		b.Scanned(archive.Total{Files: 3, Bytes: 400}, true)
		b.Error("/d/x", errors.New("denied"))
		b.p.Warn("note %d", 7)
		var got []itemMessage
		for dec := json.NewDecoder(&out); dec.More(); {
			var m itemMessage
			if err := dec.Decode(&m); err != nil {
				t.Fatal(err)
			}
			got = append(got, m)
		}
		want := []itemMessage{
			{MessageType: "verbose_status", Action: "unchanged", Item: "/d/same"},
			{MessageType: "verbose_status", Action: "new", Item: "/d/new", Duration: 30, DataSize: 100, DataSizeInRepo: 60},
			{MessageType: "verbose_status", Action: "modified", Item: "/d/", MetadataSize: 9, MetadataSizeInRepo: 7},
			{MessageType: "verbose_status", Action: "scan_finished", Duration: 60, DataSize: 400, TotalFiles: 3},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		wantErr := `{"message_type":"error","error":{"message":"denied"},"during":"archival","item":"/d/x"}` + "\n" +
			`{"message_type":"warning","message":"note 7"}` + "\n"
		if diff := cmp.Diff(wantErr, errOut.String()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestBackupFinish(t *testing.T) {
	saved := &snapshot.Snapshot{ID: blob.Hash([]byte("s"))}
	summary := snapshot.Summary{FilesNew: 1, DirsChanged: 22222, DataAdded: 3 << 20, DataAddedPacked: 2 << 20,
		DataBlobs: 4, TotalFilesProcessed: 5, TotalBytesProcessed: 6 << 30}
	for _, c := range []struct {
		name   string
		res    archive.Result
		dryRun bool
		want   []string // among the lines
	}{
		{"saved", archive.Result{Snapshot: saved, Parent: saved, Summary: summary}, false, []string{
			"using parent snapshot " + saved.ID.Short(),
			"Files:           1 new,     0 changed,     0 unmodified",
			"Dirs:            0 new, 22222 changed,     0 unmodified",
			"Added to the repository: 3.000 MiB (2.000 MiB stored)",
			"processed 5 files, 6.000 GiB in 0:00",
			"snapshot " + saved.ID.Short() + " saved",
		}},
		{"dry run", archive.Result{Snapshot: &snapshot.Snapshot{}, Summary: summary}, true, []string{
			"no parent snapshot found, all files were read", "Would add to the repository: 3.000 MiB (2.000 MiB stored)"}},
		{"skipped", archive.Result{Summary: summary, Parent: saved, Skipped: true}, false, []string{"nothing has changed: no snapshot is saved"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			NewBackup(New(Options{Stdout: &out, Stderr: &out})).Finish(c.res, c.dryRun)
			for _, want := range c.want {
				if !strings.Contains("\n"+out.String(), "\n"+want+"\n") {
					t.Errorf("no line %q in:\n%s", want, out.String())
				}
			}
			if c.dryRun && strings.Contains(out.String(), "saved") {
				t.Errorf("a dry run saves nothing:\n%s", out.String())
			}
		})
	}
}
