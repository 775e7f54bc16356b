package progress

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/blob"
	"vitrine/repo/check"
)

func TestCheckLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out, errOut bytes.Buffer
		c := NewCheck(New(Options{Stdout: &out, Stderr: &errOut}))
		c.Progress(check.Snapshots, 0, 2)
		c.Progress(check.Snapshots, 2, 2)
		c.Progress(check.Trees, 0, 0)
		time.Sleep(6 * time.Second)
		c.Progress(check.Trees, 7, 0)
		time.Sleep(6 * time.Second)
		c.Error(errors.New("pack 1f2e is missing"))
		c.Progress(check.Data, 0, 2<<20)
		time.Sleep(4 * time.Second)
		c.Progress(check.Data, 1<<20, 2<<20)
		time.Sleep(7 * time.Second)
		c.End()
		c.Finish(check.Result{Errors: 1, PacksRead: 1, Packs: 3, BytesRead: 1 << 20})
		want := strings.Join([]string{
			"load snapshots",
			"check snapshots, trees and blobs",
			"[0:10]  7 trees",
			"read data",
			"[0:10] 50.00%  1.000 MiB of 2.000 MiB, 102.4 KiB/s, 0:10 left",
			"read 1 of 3 packs (1.000 MiB)",
			"",
		}, "\n")
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Error(diff)
		}
		if got := errOut.String(); got != "error: pack 1f2e is missing\n" {
			t.Errorf("standard error is %q", got)
		}
	})
}

// TestCheckQuiet: what to do about errors is said in any case, and nothing else.
func TestCheckQuiet(t *testing.T) {
	var out, errOut bytes.Buffer
	c := NewCheck(New(Options{Stdout: &out, Stderr: &errOut, Quiet: true}))
	c.Error(errors.New("index file 1f2e is damaged"))
	c.Hint("some packs are in no index")
	c.Finish(check.Result{Errors: 1, IndexDamaged: true, LostFiles: true, UnusedCounted: true})
	want := "`vitrine repair index` makes a new index of the packs that are there\n" +
		"then check again; what is lost and has no copy elsewhere can be backed up again, or this takes it out of the snapshots:\n  vitrine repair snapshots --forget\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	if got := errOut.String(); got != "error: index file 1f2e is damaged\n" {
		t.Errorf("standard error is %q", got)
	}
}

func TestCheckJSON(t *testing.T) {
	var out, errOut bytes.Buffer
	c := NewCheck(New(Options{Stdout: &out, Stderr: &errOut, JSON: true}))
	c.Progress(check.Packs, 1, 2)
	c.Hint("an orphan pack")
	c.Error(errors.New("pack 1f2e is missing"))
	c.End()
	id := blob.Hash(nil)
	for _, finish := range []struct {
		res  check.Result
		want string
	}{
		{check.Result{Errors: 1, OrphanPacks: 1}, `"num_errors":1,"broken_packs":null,"suggest_repair_index":false,"suggest_prune":true}`},
		{check.Result{Errors: 2, BrokenPacks: []blob.ID{id}, IndexDamaged: true}, `"num_errors":2,"broken_packs":["` + id.String() + `"],"suggest_repair_index":true,"suggest_prune":false}`},
	} {
		out.Reset()
		c.Finish(finish.res)
		if diff := cmp.Diff(`{"message_type":"summary",`+finish.want+"\n", out.String()); diff != "" {
			t.Error(diff)
		}
	}
	if diff := cmp.Diff(`{"message_type":"error","message":"pack 1f2e is missing"}`+"\n", errOut.String()); diff != "" {
		t.Error(diff)
	}
}
