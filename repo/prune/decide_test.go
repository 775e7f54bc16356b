package prune

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// size makes a pack of data with so many used and unused bytes, each blob of 100 bytes.
func size(used, unused int64) pack {
	p := pack{used: Tally{int(used / 100), used}, unused: Tally{int(unused / 100), unused}}
	p.sizeBytes = used + unused + 50
	p.wantBytes = p.sizeBytes
	return p
}

func with(p pack, change func(p *pack)) pack {
	change(&p)
	return p
}

func trees(p *pack) { p.trees = true }
func mixed(p *pack) { p.trees, p.mixed = true, true }
func plain(p *pack) { p.plain = true }
func gone(p *pack)  { p.sizeBytes = -1 }
func cut(p *pack)   { p.sizeBytes-- }

func TestDecide(t *testing.T) {
	const full = 10_000
	limits := func(change func(r *rules)) rules {
		r := rules{Options: Options{MaxUnused: Percent(5), MaxRepackBytes: NoLimit}, version: 2, compresses: true, packBytes: full}
		if change != nil {
			change(&r)
		}
		return r
	}
	version1 := limits(func(r *rules) { r.version, r.compresses = 1, false })
	exact := limits(func(r *rules) { r.MaxUnused = Limit{} })
	small := limits(func(r *rules) { r.Small = true })
	many := func(n int, p pack) []pack {
		var list []pack
		for range n {
			list = append(list, p)
		}
		return list
	}
	actions := func(n int, a action) []action {
		var list []action
		for range n {
			list = append(list, a)
		}
		return list
	}
	tests := []struct {
		name  string
		packs []pack
		rules rules
		want  decision
	}{
		{"nothing", nil, limits(nil), decision{actions: []action{}}},
		{"all used", []pack{size(full, 0), size(100, 0)}, limits(nil), decision{actions: []action{keep, keep}}},
		{"all unused", []pack{size(0, full), with(size(0, 500), gone), with(size(0, 500), cut)}, limits(nil), decision{actions: []action{remove, drop, remove}}},
		{"within the limit", []pack{size(9500, 500), size(full, 0)}, limits(nil), decision{actions: []action{keep, keep}}},
		{"just at the limit", []pack{size(9500, 500)}, limits(nil), decision{actions: []action{keep}}},
		{"just beyond the limit", []pack{size(9400, 600)}, limits(nil), decision{actions: []action{repack}}},
		{"the worst first, until within the limit", []pack{size(9500, 500), size(2000, 8000), size(9000, 1000)}, limits(nil),
			decision{actions: []action{keep, repack, repack}}},
		{"removed packs do not count as left", []pack{size(0, full), size(9600, 400)}, limits(nil), decision{actions: []action{remove, keep}}},
		{"no limit of unused", []pack{size(100, 9900), size(0, 100)}, limits(func(r *rules) { r.MaxUnused = Unlimited }), decision{actions: []action{keep, remove}}},
		{"limit in bytes", []pack{size(9000, 1000), size(8000, 2000)}, limits(func(r *rules) { r.MaxUnused = Limit{bytes: 1000} }),
			decision{actions: []action{keep, repack}}},
		{"nothing may stay", []pack{size(9900, 100), size(full, 0)}, exact, decision{actions: []action{repack, keep}}},
		{"trees in any case", []pack{with(size(9900, 100), trees)}, limits(func(r *rules) { r.MaxUnused = Unlimited }), decision{actions: []action{repack}}},
		{"only trees", []pack{size(100, 9900), with(size(100, 9900), trees), size(0, 100)}, limits(func(r *rules) { r.CacheableOnly = true }),
			decision{actions: []action{keep, repack, remove}}},
		{"repack bound", []pack{size(5000, 5000), size(2000, 8000), size(1000, 9000)}, limits(func(r *rules) { r.MaxRepackBytes = 2 * full }),
			decision{actions: []action{keep, repack, repack}}},
		{"repack bound passes over what is too large", []pack{size(1000, 19_000), size(5000, 5000)}, limits(func(r *rules) { r.MaxRepackBytes = full }),
			decision{actions: []action{keep, repack}}},
		{"repack nothing", []pack{size(1000, 9000), size(0, 100), with(size(100, 0), mixed)}, limits(func(r *rules) { r.MaxRepackBytes = 0 }),
			decision{actions: []action{keep, remove, keep}}},
		{"trees before data", []pack{size(100, 9900), with(size(9000, 1000), trees)}, limits(func(r *rules) { r.MaxRepackBytes = full }),
			decision{actions: []action{keep, repack}}},
		{"mixed", []pack{with(size(full, 0), mixed)}, limits(nil), decision{actions: []action{repack}}},
		{"mixed in version 1", []pack{with(size(full, 0), mixed)}, version1, decision{actions: []action{keep}}},
		{"plain data", []pack{with(size(full, 0), plain)}, limits(nil), decision{actions: []action{keep}}},
		{"plain data, to be compressed", []pack{with(size(full, 0), plain), size(full, 0)}, limits(func(r *rules) { r.Uncompressed = true }),
			decision{actions: []action{repack, keep}}},
		{"plain trees", []pack{with(with(size(full, 0), plain), trees)}, limits(nil), decision{actions: []action{repack}}},
		{"plain trees, compression off", []pack{with(with(size(full, 0), plain), trees)}, limits(func(r *rules) { r.compresses = false }),
			decision{actions: []action{keep}}},
		{"few small packs", many(9, size(100, 0)), small, decision{actions: actions(9, keep)}},
		{"small packs", many(10, size(100, 0)), small, decision{actions: actions(10, repack)}},
		{"small packs, not asked for", many(10, size(100, 0)), limits(nil), decision{actions: actions(10, keep)}},
		{"small and large", append(many(10, size(7900, 0)), size(8000, 0)), small, decision{actions: append(actions(10, repack), keep)}},
		{"a small one with something unused", []pack{size(4000, 100), size(9900, 100)}, small, decision{actions: []action{repack, keep}}},
		{"smaller than a size", append(many(10, size(2949, 0)), size(2950, 0)), limits(func(r *rules) { r.Small, r.SmallBytes = true, 3000 }),
			decision{actions: append(actions(10, repack), keep)}},
		{"missing", []pack{with(size(100, 0), gone), size(0, 100)}, limits(nil), decision{actions: []action{keep, remove}, missing: []int{0}}},
		{"odd size", []pack{size(0, 100), with(size(100, 500), cut)}, limits(nil), decision{actions: []action{remove, keep}, odd: []int{1}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := decide(test.packs, test.rules)
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(decision{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestStats(t *testing.T) {
	packs := []pack{
		size(300, 100),
		with(size(200, 400), func(p *pack) { p.duplicates = Tally{1, 100} }),
		size(0, 500),
	}
	s := Stats{Unlisted: 1000}
	s.count(packs, []action{keep, repack, remove})
	want := Stats{
		Used: Tally{5, 500}, Duplicates: Tally{1, 100}, Unused: Tally{9, 900},
		Repack: Tally{6, 600}, RepackGone: Tally{4, 400}, Remove: Tally{5, 500}, Unlisted: 1000,
		Packs: 3, KeepPacks: 1, RepackPacks: 1, RemovePacks: 1,
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]Tally{{9, 1900}, {6, 600}, {1, 100}}, []Tally{s.Freed(), s.Left(), s.LeftUnused()}); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestReasons(t *testing.T) {
	var got Reasons
	by := rules{version: 2, compresses: true, Options: Options{Uncompressed: true, Small: true}, packBytes: 10_000}
	for _, p := range []pack{
		with(size(100, 100), func(p *pack) { p.mixed, p.trees = true, true }),
		with(size(100, 0), func(p *pack) { p.plain = true }),
		size(100, 100),
		with(size(100, 300), func(p *pack) { p.duplicates = Tally{1, 100} }),
		with(size(100, 100), func(p *pack) { p.duplicates = Tally{1, 100} }),
		size(100, 0),
	} {
		got.add(&p, &by)
	}
	if want := (Reasons{Mixed: 1, Uncompressed: 1, Unused: 2, Twice: 1, Small: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestLimit(t *testing.T) {
	for _, test := range []struct {
		limit      Limit
		used, want int64
	}{
		{Limit{}, 100, 0}, {Percent(0), 100, 0}, {Percent(5), 9500, 500}, {Percent(50), 100, 100}, {Percent(1.5), 98_500, 1500},
		{Percent(100), 1, NoLimit}, {Unlimited, 1, NoLimit}, {Bytes(2048), 1, 2048},
	} {
		if got := test.limit.allowed(test.used); math.Abs(float64(got-test.want)) > 1 {
			t.Errorf("%+v of %d: %d, want %d", test.limit, test.used, got, test.want)
		}
	}
}
