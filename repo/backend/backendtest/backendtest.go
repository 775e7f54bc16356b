// Package backendtest is the conformance suite of backend.Backend: one test per sentence of the
// contract. Every transport and every wrapper runs it.
package backendtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/backend"
)

// Run tests the backends that open makes; each call must give an empty one of its own.
func Run(t *testing.T, open func(t *testing.T) backend.Backend) {
	for _, test := range suite {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// RunRepeating is Run for backends whose calls may be made more than once, since what is behind them fails
// all the time. They mostly wait, so that so many tests run at once, whatever -parallel says. A quick run may meet too
// few of the faults to show anything: the suite is run again until enough returns true, ten times at most.
func RunRepeating(t *testing.T, atOnce int, enough func() bool, open func(t *testing.T) backend.Backend) {
	for round := range 10 {
		runRepeating(t, atOnce, round, open)
		if enough() || t.Failed() {
			return
		}
	}
	t.Error("too few faults in ten runs: the test shows nothing")
}

func runRepeating(t *testing.T, atOnce, round int, open func(t *testing.T) backend.Backend) {
	var group sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, test := range suite {
		name := test.name
		if round > 0 {
			name += fmt.Sprintf("Again%d", round) // #01 would become part of the names of directories, and a URL has no #
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			t.Run(name, func(t *testing.T) { test.run(t, repeating{open(t)}) })
		})
	}
	group.Wait()
}

// repeating marks a backend of RunRepeating.
type repeating struct{ backend.Backend }

// wantRefusal expects the class, or that a call was made twice and the second met what the first had done.
func wantRefusal(t *testing.T, be backend.Backend, what string, err, class error) {
	t.Helper()
	if _, may := be.(repeating); !may || err != nil {
		wantClass(t, what, err, class)
	}
}

type conformance struct {
	name string
	test func(*testing.T, backend.Backend)
}

func (c conformance) run(t *testing.T, be backend.Backend) {
	c.test(t, be)
	if err := be.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

var suite = []conformance{
	{"SaveThenRead", testSaveThenRead},
	{"Sizes", testSizes},
	{"SaveTwice", testSaveTwice},
	{"BufferStaysTheCallers", testBuffer},
	{"Ranges", testRanges},
	{"ReadAllBound", testReadAllBound},
	{"NotExist", testNotExist},
	{"Names", testNames},
	{"List", testList},
	{"ListError", testListError},
	{"ListAndChange", testListAndChange},
	{"Remove", testRemove},
	{"Cancelled", testCancelled},
	{"ErrorsNameTheFile", testErrorsNameTheFile},
	{"Parallel", testParallel},
	{"Location", testLocation},
}

// Content returns n bytes that depend on the seed only.
func Content(seed uint64, n int) []byte {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	p := make([]byte, n)
	rand.NewChaCha8(key).Read(p)
	return p
}

// FileOf returns the name that a file of the kind with this content has.
func FileOf(kind backend.Kind, content []byte) backend.File {
	if kind == backend.Config {
		return backend.File{Kind: kind}
	}
	sum := sha256.Sum256(content)
	return backend.File{Kind: kind, Name: hex.EncodeToString(sum[:])}
}

func save(t *testing.T, be backend.Backend, kind backend.Kind, content []byte) backend.File {
	t.Helper()
	f := FileOf(kind, content)
	if err := be.Save(t.Context(), f, content); err != nil {
		t.Fatalf("Save: %v", err)
	}
	return f
}

func wantContent(t *testing.T, be backend.Backend, f backend.File, want []byte) {
	t.Helper()
	got, err := be.ReadAll(t.Context(), f, int64(len(want)))
	if err != nil {
		t.Fatalf("ReadAll(%v): %v", f, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("ReadAll(%v) gives other bytes than were saved (%d, want %d)", f, len(got), len(want))
	}
}

func wantClass(t *testing.T, what string, err, class error) {
	t.Helper()
	if !errors.Is(err, class) {
		t.Errorf("%s: error %v, want class %q", what, err, class)
	}
}

func list(t *testing.T, be backend.Backend, kind backend.Kind) map[string]int64 {
	t.Helper()
	found := map[string]int64{}
	err := be.List(t.Context(), kind, func(info backend.Info) error {
		if _, twice := found[info.Name]; twice {
			t.Errorf("List(%v): %q comes twice", kind, info.Name)
		}
		found[info.Name] = info.SizeBytes
		return nil
	})
	if err != nil {
		t.Fatalf("List(%v): %v", kind, err)
	}
	return found
}

func testSaveThenRead(t *testing.T, be backend.Backend) {
	for i, kind := range backend.Kinds {
		content := Content(uint64(i), 1000+i)
		f := save(t, be, kind, content)
		wantContent(t, be, f, content)
		info, err := be.Stat(t.Context(), f)
		if want := (backend.Info{Name: f.Name, SizeBytes: int64(len(content))}); err != nil || info != want {
			t.Errorf("Stat(%v) = %v, %v, want %v", f, info, err, want)
		}
	}
}

func testSizes(t *testing.T, be backend.Backend) {
	sizes := []int{0, 1, 4095, 4096, 4097, 1 << 20, 4<<20 + 1}
	if _, may := be.(repeating); !may { // on a broken line it would hardly ever arrive
		sizes = append(sizes, 33<<20)
	}
	for i, n := range sizes {
		content := Content(uint64(i), n)
		wantContent(t, be, save(t, be, backend.Pack, content), content)
	}
}

func testSaveTwice(t *testing.T, be backend.Backend) {
	for _, kind := range backend.Kinds {
		content := Content(1, 100)
		f := save(t, be, kind, content)
		err := be.Save(t.Context(), f, content)
		if kind == backend.Config {
			wantRefusal(t, be, "second Save of config", err, backend.ErrExist)
			err = be.Save(t.Context(), f, []byte("other"))
			wantClass(t, "Save of another config", err, backend.ErrExist)
			other := Content(3, 150)
			switch err := be.Save(backend.WithReplace(t.Context()), f, other); {
			case err == nil:
				content = other
			case !errors.Is(err, backend.ErrExist): // that is allowed, and then nothing is changed
				t.Errorf("Save in the place of the config: %v", err)
			}
		} else if err != nil {
			t.Errorf("second Save(%v): %v", f, err)
		}
		wantContent(t, be, f, content)
	}
	// A damaged file can be replaced by the right bytes.
	content := Content(2, 100)
	f := FileOf(backend.Index, content)
	if err := be.Save(t.Context(), f, content[:50]); err != nil {
		t.Fatal(err)
	}
	save(t, be, backend.Index, content)
	wantContent(t, be, f, content)
}

func testBuffer(t *testing.T, be backend.Backend) {
	content := Content(1, 5000)
	buf := bytes.Clone(content)
	f := FileOf(backend.Pack, content)
	if err := be.Save(t.Context(), f, buf); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(buf, content) {
		t.Error("Save changed the buffer")
	}
	clear(buf)
	wantContent(t, be, f, content)
	got, err := be.ReadAll(t.Context(), f, 5000)
	if err != nil {
		t.Fatal(err)
	}
	clear(got)
	wantContent(t, be, f, content)
}

func testRanges(t *testing.T, be backend.Backend) {
	const size = 10000
	content := Content(1, size)
	f := save(t, be, backend.Pack, content)
	tests := []struct {
		offset int64
		n      int
		short  bool
	}{
		{0, size, false}, {0, 1, false}, {0, 0, false}, {1, 4096, false}, {size - 1, 1, false}, {size, 0, false},
		{4096, size - 4096, false}, {0, size + 1, true}, {size, 1, true}, {size - 1, 2, true}, {size + 1, 0, true},
		{size + 1000, 10, true}, {1 << 40, 1, true}, {-1, 1, true},
	}
	for _, test := range tests {
		p := bytes.Repeat([]byte{0xAA}, test.n)
		err := be.ReadAt(t.Context(), f, p, test.offset)
		if test.short {
			wantClass(t, fmt.Sprintf("ReadAt %d+%d of %d", test.offset, test.n, size), err, backend.ErrShort)
			continue
		}
		if err != nil {
			t.Errorf("ReadAt %d+%d: %v", test.offset, test.n, err)
		} else if !bytes.Equal(p, content[test.offset:][:test.n]) {
			t.Errorf("ReadAt %d+%d gives wrong bytes", test.offset, test.n)
		}
	}
}

func testReadAllBound(t *testing.T, be backend.Backend) {
	f := save(t, be, backend.Index, Content(1, 1000))
	_, err := be.ReadAll(t.Context(), f, 999)
	wantClass(t, "ReadAll of 1000 bytes, 999 allowed", err, backend.ErrTooBig)
	if _, err := be.ReadAll(t.Context(), f, 1000); err != nil {
		t.Errorf("ReadAll of 1000 bytes, 1000 allowed: %v", err)
	}
	empty := save(t, be, backend.Index, nil)
	if got, err := be.ReadAll(t.Context(), empty, 0); err != nil || len(got) != 0 {
		t.Errorf("ReadAll of nothing = %d bytes, %v", len(got), err)
	}
}

func testNotExist(t *testing.T, be backend.Backend) {
	for _, kind := range backend.Kinds {
		f := FileOf(kind, []byte("never saved"))
		ctx := t.Context()
		wantClass(t, "ReadAt", be.ReadAt(ctx, f, make([]byte, 1), 0), backend.ErrNotExist)
		wantClass(t, "ReadAt of nothing", be.ReadAt(ctx, f, nil, 0), backend.ErrNotExist)
		_, err := be.ReadAll(ctx, f, 100)
		wantClass(t, "ReadAll", err, backend.ErrNotExist)
		_, err = be.Stat(ctx, f)
		wantClass(t, "Stat", err, backend.ErrNotExist)
		wantRefusal(t, be, "Remove", be.Remove(ctx, f), backend.ErrNotExist)
		if found := list(t, be, kind); len(found) != 0 {
			t.Errorf("List(%v) of an empty store gives %v", kind, found)
		}
	}
}

func testNames(t *testing.T, be backend.Backend) {
	good := strings.Repeat("0123456789abcdef", 4)
	bad := []backend.File{
		{Kind: backend.Config, Name: good},
		{Kind: backend.Key}, {Kind: backend.Pack},
		{Kind: backend.Pack, Name: good[1:]}, {Kind: backend.Index, Name: good + "0"},
		{Kind: backend.Snapshot, Name: strings.ToUpper(good)},
		{Kind: backend.Lock, Name: "../" + good[3:]},
		{Kind: backend.Pack, Name: "/" + good[1:]},
		{Kind: backend.Key, Name: good[:63] + "\x00"},
		{Kind: backend.Lock + 1, Name: good},
	}
	ctx := t.Context()
	for _, f := range bad {
		what := fmt.Sprintf("%d/%q: ", f.Kind, f.Name)
		wantClass(t, what+"Save", be.Save(ctx, f, []byte("x")), backend.ErrName)
		wantClass(t, what+"ReadAt", be.ReadAt(ctx, f, make([]byte, 1), 0), backend.ErrName)
		_, err := be.ReadAll(ctx, f, 10)
		wantClass(t, what+"ReadAll", err, backend.ErrName)
		_, err = be.Stat(ctx, f)
		wantClass(t, what+"Stat", err, backend.ErrName)
		wantClass(t, what+"Remove", be.Remove(ctx, f), backend.ErrName)
	}
	// Equal names of different kinds are different files.
	for i, kind := range backend.Kinds[1:] {
		if err := be.Save(ctx, backend.File{Kind: kind, Name: good}, []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for i, kind := range backend.Kinds[1:] {
		wantContent(t, be, backend.File{Kind: kind, Name: good}, []byte{byte(i)})
	}
}

func testList(t *testing.T, be backend.Backend) {
	want := map[backend.Kind]map[string]int64{}
	for k, kind := range backend.Kinds {
		want[kind] = map[string]int64{}
		n := 30
		if _, may := be.(repeating); may {
			n = 10
		}
		if kind == backend.Config {
			n = 1
		}
		for i := range n {
			f := save(t, be, kind, Content(uint64(1000*k+i), i))
			want[kind][f.Name] = int64(i)
		}
	}
	for _, kind := range backend.Kinds {
		if diff := cmp.Diff(want[kind], list(t, be, kind)); diff != "" {
			t.Errorf("List(%v), -want +got:\n%s", kind, diff)
		}
	}
}

func testListError(t *testing.T, be backend.Backend) {
	for i := range 3 {
		save(t, be, backend.Index, Content(uint64(i), 10))
	}
	stop := errors.New("stop")
	calls := 0
	err := be.List(t.Context(), backend.Index, func(backend.Info) error {
		calls++
		return stop
	})
	if err != stop {
		t.Errorf("List returns %v, want the error of fn as it is", err)
	}
	if calls != 1 {
		t.Errorf("fn was called %d times, want 1", calls)
	}
}

// testListAndChange calls the backend from inside fn, as a caller that removes what it lists does.
func testListAndChange(t *testing.T, be backend.Backend) {
	for i := range 10 {
		save(t, be, backend.Pack, Content(uint64(i), 10))
	}
	err := be.List(t.Context(), backend.Pack, func(info backend.Info) error {
		return be.Remove(t.Context(), backend.File{Kind: backend.Pack, Name: info.Name})
	})
	if err != nil {
		t.Fatal(err)
	}
	if found := list(t, be, backend.Pack); len(found) != 0 {
		t.Errorf("%d files are left", len(found))
	}
}

func testRemove(t *testing.T, be backend.Backend) {
	for i, kind := range backend.Kinds {
		if _, may := be.(repeating); may && kind == backend.Config {
			continue // nobody removes it, and rclone (1.60) answers 500 for ever when the first answer was lost
		}
		content := Content(uint64(i), 100)
		f := save(t, be, kind, content)
		if err := be.Remove(t.Context(), f); err != nil {
			t.Errorf("Remove(%v): %v", f, err)
		}
		_, err := be.Stat(t.Context(), f)
		wantClass(t, "Stat after Remove", err, backend.ErrNotExist)
		wantClass(t, "ReadAt after Remove", be.ReadAt(t.Context(), f, make([]byte, 1), 0), backend.ErrNotExist)
		wantRefusal(t, be, "second Remove", be.Remove(t.Context(), f), backend.ErrNotExist)
		save(t, be, kind, content)
		wantContent(t, be, f, content)
	}
}

func testCancelled(t *testing.T, be backend.Backend) {
	content := Content(1, 100)
	f := save(t, be, backend.Pack, content)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	other := FileOf(backend.Pack, []byte("other"))
	wantClass(t, "Save", be.Save(ctx, other, []byte("other")), context.Canceled)
	wantClass(t, "ReadAt", be.ReadAt(ctx, f, make([]byte, 1), 0), context.Canceled)
	_, err := be.ReadAll(ctx, f, 100)
	wantClass(t, "ReadAll", err, context.Canceled)
	_, err = be.Stat(ctx, f)
	wantClass(t, "Stat", err, context.Canceled)
	wantClass(t, "Remove", be.Remove(ctx, f), context.Canceled)
	wantClass(t, "List", be.List(ctx, backend.Pack, func(backend.Info) error { return nil }), context.Canceled)
	if _, err := be.Stat(t.Context(), other); !errors.Is(err, backend.ErrNotExist) {
		t.Errorf("a cancelled Save left a file: %v", err)
	}
	wantContent(t, be, f, content)

	// A context that ends while a listing is under way ends the listing.
	for i := range 5 {
		save(t, be, backend.Pack, Content(uint64(10+i), 10))
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	calls := 0
	err = be.List(ctx, backend.Pack, func(backend.Info) error {
		calls++
		cancel()
		return nil
	})
	wantClass(t, "List, cancelled by fn", err, context.Canceled)
	if calls != 1 {
		t.Errorf("fn was called %d times, want 1", calls)
	}
}

func testErrorsNameTheFile(t *testing.T, be backend.Backend) {
	f := FileOf(backend.Snapshot, []byte("x"))
	ctx := t.Context()
	_, readAll := be.ReadAll(ctx, f, 10)
	_, stat := be.Stat(ctx, f)
	errs := map[string]error{"read": be.ReadAt(ctx, f, make([]byte, 1), 0), "read ": readAll, "stat": stat}
	if _, may := be.(repeating); !may {
		errs["remove"] = be.Remove(ctx, f)
	}
	for op, err := range errs {
		if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(op)) || !strings.Contains(err.Error(), f.String()) {
			t.Errorf("error %q names not both %q and %q", err, op, f)
		}
	}
}

// testParallel lets many goroutines work on the same and on different files. The race detector
// and the contents decide.
func testParallel(t *testing.T, be backend.Backend) {
	workers, rounds := 8, 20
	if _, may := be.(repeating); may { // each call may have to be made again
		workers, rounds = 4, 4
	}
	shared := Content(0, 3000)
	sharedFile := FileOf(backend.Pack, shared)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := range rounds {
				if err := round(t.Context(), be, sharedFile, shared, Content(uint64(1+w*rounds+i), 500+i)); err != nil {
					t.Errorf("worker %d, round %d: %v", w, i, err)
					return
				}
			}
		})
	}
	group.Wait()
	if found := list(t, be, backend.Pack); len(found) != 1+workers*rounds/2 {
		t.Errorf("%d files are left, want %d", len(found), 1+workers*rounds/2)
	}
}

func round(ctx context.Context, be backend.Backend, sharedFile backend.File, shared, own []byte) error {
	if err := be.Save(ctx, sharedFile, shared); err != nil {
		return err
	}
	f := FileOf(backend.Pack, own)
	if err := be.Save(ctx, f, own); err != nil {
		return err
	}
	for file, content := range map[backend.File][]byte{sharedFile: shared, f: own} {
		got := make([]byte, len(content)-7)
		if err := be.ReadAt(ctx, file, got, 7); err != nil {
			return err
		}
		if !bytes.Equal(got, content[7:]) {
			return fmt.Errorf("%v: wrong bytes", file)
		}
	}
	seen := 0
	err := be.List(ctx, backend.Pack, func(info backend.Info) error {
		if info.Name == f.Name {
			seen++
		}
		return nil
	})
	if err != nil || seen != 1 {
		return fmt.Errorf("listing shows its own file %d times: %w", seen, err)
	}
	if len(own)%2 == 0 {
		return be.Remove(ctx, f)
	}
	return nil
}

func testLocation(t *testing.T, be backend.Backend) {
	if be.Location() == "" {
		t.Error("Location is empty")
	}
}
