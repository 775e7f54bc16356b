package check_test

import (
	"slices"
	"testing"

	"vitrine/repo"
	"vitrine/repo/backend/local"
	"vitrine/repo/backend/local/localtest"
	"vitrine/repo/check"
	"vitrine/repo/repotest"
)

// TestPowerLoss backs up twice on a disk that loses power behind each of its calls: what is
// found is a sound repository with every snapshot that was promised.
func TestPowerLoss(t *testing.T) {
	disk := localtest.NewCrashFS()
	be, err := local.CreateFS(disk, "/repo")
	if err != nil {
		t.Fatal(err)
	}
	repotest.Init(t, be, 2)
	ready := disk.Ops()
	s := &sample{t: t, version: 2, r: repotest.Open(t, be)}
	s.first = s.backup(false)
	afterFirst := disk.Ops()
	s.last = s.backup(true)
	afterLast := disk.Ops()

	for n := ready; n <= afterLast; n++ {
		for _, loss := range localtest.Losses {
			be, err := local.OpenFS(disk.After(n, loss), "/repo")
			if err != nil {
				t.Fatal(err)
			}
			r, err := repo.Open(t.Context(), be, repotest.Options())
			if err != nil {
				t.Fatalf("power lost (%v) behind call %d: %v", loss, n, err)
			}
			f := &found{}
			res, err := check.Run(t.Context(), r, check.Options{ReadData: true}, f)
			if err != nil || len(f.errors) > 0 {
				t.Errorf("power lost (%v) behind call %d, %v: %v, %q", loss, n, disk.Trace()[n-1], err, f.errors)
			}
			promised := 0
			if n >= afterFirst {
				promised++
			}
			if n >= afterLast {
				promised++
			}
			if res.Snapshots < promised {
				t.Errorf("power lost (%v) behind call %d: %d snapshots, %d were promised", loss, n, res.Snapshots, promised)
			}
			// The interrupted backup can be made again.
			if n%10 == 0 {
				again := &sample{t: t, version: 2, r: r}
				again.backup(true)
				if res := wantSoundButOrphans(t, r); res.Snapshots <= promised {
					t.Errorf("%d snapshots after another backup", res.Snapshots)
				}
			}
			r.Close()
		}
	}
}

// wantSoundButOrphans allows for packs that an interrupted backup has left.
func wantSoundButOrphans(t *testing.T, r *repo.Repository) check.Result {
	t.Helper()
	res, f := run(t, r, check.Options{ReadData: true})
	f.hints = slices.DeleteFunc(f.hints, func(hint string) bool { return holds(hint, []string{"in no index"}) })
	if len(f.errors)+len(f.hints) > 0 {
		t.Errorf("errors %q, hints %q", f.errors, f.hints)
	}
	return res
}
