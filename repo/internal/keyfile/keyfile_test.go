package keyfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/internal/seal"
)

// cheap costs make a derivation free.
var cheap = Params{N: 2, R: 1, P: 1}

var created = time.Date(2024, 5, 6, 7, 8, 9, 123456789, time.FixedZone("", 3600))

func newFile(t testing.TB, master *seal.Key, params Params) []byte {
	t.Helper()
	text, err := New(master, []byte("pass"), "me", "here", created, params)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestRoundTrip(t *testing.T) {
	master := seal.NewKey()
	for _, params := range []Params{cheap, {N: 1024, R: 8, P: 1}, {N: 16, R: 3, P: 7}} {
		text := newFile(t, master, params)
		got, err := Open(text, []byte("pass"))
		if err != nil {
			t.Fatal(err)
		}
		if got.Encrypt != master.Encrypt || got.MACK != master.MACK || got.MACR != master.MACR {
			t.Errorf("%+v: another key came out", params)
		}
		for _, wrong := range []string{"", "Pass", "pass "} {
			if _, err := Open(text, []byte(wrong)); !errors.Is(err, ErrWrongPassword) {
				t.Errorf("password %q: error %v", wrong, err)
			}
		}
		info, err := ParseInfo(text)
		want := Info{Created: created, Username: "me", Hostname: "here", KDF: "scrypt", Params: params}
		if diff := cmp.Diff(want, info); err != nil || diff != "" {
			t.Errorf("info: %v, %s", err, diff)
		}
	}
	if bytes.Equal(newFile(t, master, cheap), newFile(t, master, cheap)) {
		t.Error("two files are the same: the salt is not fresh")
	}
}

func TestFieldOrder(t *testing.T) {
	text := newFile(t, seal.NewKey(), cheap)
	want := `^\{"created":"2024-05-06T07:08:09\.123456789\+01:00","username":"me","hostname":"here",` +
		`"kdf":"scrypt","N":2,"r":1,"p":1,"salt":"[A-Za-z0-9+/]{86}==","data":"[A-Za-z0-9+/]+={0,2}"\}$`
	if !regexp.MustCompile(want).Match(text) {
		t.Errorf("%s does not match %s", text, want)
	}
}

func TestNewErrors(t *testing.T) {
	if _, err := New(seal.NewKey(), nil, "", "", created, Params{}); err == nil {
		t.Error("no costs: no error")
	}
	if _, err := New(seal.NewKey(), nil, "", "", created.AddDate(9000, 0, 0), cheap); err == nil {
		t.Error("year 11024: no error")
	}
}

func TestParamsCheck(t *testing.T) {
	for _, tt := range []struct {
		params Params
		ok     bool
	}{
		{Default, true},
		{cheap, true},
		{Params{1 << 16, 8, 1}, true},
		{Params{1 << 18, 8, 10}, true},
		{Params{1 << 19, 8, 1}, false}, // 512 MiB and a little
		{Params{0, 8, 1}, false},
		{Params{1, 8, 1}, false},
		{Params{3, 8, 1}, false},
		{Params{-2, 8, 1}, false},
		{Params{math.MinInt, 8, 1}, false},
		{Params{1 << 15, 0, 1}, false},
		{Params{1 << 15, 8, 0}, false},
		{Params{1 << 15, -8, -5}, false},
		{Params{1 << 15, 8, 1000}, false},
		{Params{2, 1, 1 << 22}, false},
		{Params{1 << 62, 1 << 62, 1 << 62}, false},
		{Params{2, math.MaxInt, math.MaxInt}, false},
		{Params{1 << 30, 1, 1}, false},
	} {
		if err := tt.params.Check(); (err == nil) != tt.ok {
			t.Errorf("%+v: error %v", tt.params, err)
		}
	}
}

// TestCalibrate has a machine on which a derivation takes a given time per N·r·p.
func TestCalibrate(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name        string
		perMillion  time.Duration // N·r·p
		memoryBytes int
		want        Params
	}{
		{"ordinary", 400 * time.Millisecond, 60 * mib, Params{1 << 15, 8, 5}},
		{"fast", 40 * time.Millisecond, 60 * mib, Params{1 << 15, 8, 32}},
		{"more memory", 400 * time.Millisecond, 64 * mib, Params{1 << 16, 8, 2}},
		{"little memory", 400 * time.Millisecond, 8 * mib, Params{1 << 13, 8, 19}},
		{"no memory", 400 * time.Millisecond, 0, Params{1 << 12, 8, 32}},
		{"slow", 8 * time.Second, 60 * mib, Params{1 << 15, 8, 3}},
		{"slow with little memory", 8 * time.Second, 8 * mib, Params{1 << 13, 8, 12}},
		{"broken clock", 0, 60 * mib, Params{1 << 15, 8, 32}},
	} {
		got := calibrate(500*time.Millisecond, tt.memoryBytes, func(p Params) time.Duration {
			return tt.perMillion * time.Duration(p.N*p.R*p.P) / 1_000_000
		})
		if diff := cmp.Diff(tt.want, got); diff != "" || got.Check() != nil {
			t.Errorf("%s: %s (%v)", tt.name, diff, got.Check())
		}
	}
	// A real machine, in a hurry.
	if p := Calibrate(time.Millisecond, 4*mib); p != (Params{N: 1 << 12, R: 8, P: 24}) {
		t.Errorf("calibrated %+v, want the least", p)
	}
}

// edit changes one field of a key file.
func edit(t *testing.T, text []byte, field string, value any) []byte {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	if value == nil {
		delete(m, field)
	} else {
		m[field] = value
	}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestCorruptFiles(t *testing.T) {
	text := newFile(t, seal.NewKey(), cheap)
	tests := map[string][]byte{
		"empty":           nil,
		"two files":       append(bytes.Clone(text), text...),
		"other kdf":       edit(t, text, "kdf", "argon2id"),
		"no kdf":          edit(t, text, "kdf", nil),
		"N not a power":   edit(t, text, "N", 3),
		"N negative":      edit(t, text, "N", -2),
		"N absurd":        edit(t, text, "N", 1<<40),
		"N a fraction":    edit(t, text, "N", 2.5),
		"r absurd":        edit(t, text, "r", 1<<40),
		"p absurd":        edit(t, text, "p", 1<<40),
		"no p":            edit(t, text, "p", nil),
		"short salt":      edit(t, text, "salt", make([]byte, 63)),
		"no salt":         edit(t, text, "salt", nil),
		"salt not base64": edit(t, text, "salt", "!"),
		"short data":      edit(t, text, "data", make([]byte, 31)),
		"bad time":        edit(t, text, "created", "yesterday"),
		"huge":            append(bytes.Clone(text), bytes.Repeat([]byte{' '}, maxFileBytes)...),
	}
	for n := range text {
		tests[fmt.Sprintf("cut to %d", n)] = text[:n]
	}
	for name, text := range tests {
		if _, err := Open(text, []byte("pass")); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: open: error %v", name, err)
		}
		if _, err := ParseInfo(text); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: info: error %v", name, err)
		}
	}
}

// A changed file may still open, if only the name in it changed, but never to another key.
func TestBitFlips(t *testing.T) {
	master := seal.NewKey()
	text := newFile(t, master, cheap)
	for i := range len(text) * 8 {
		p := bytes.Clone(text)
		p[i/8] ^= 1 << (i % 8)
		if info, err := ParseInfo(p); err == nil && info.Params.N > 1<<12 {
			continue // a digit of the costs; it would only take long
		}
		key, err := Open(p, []byte("pass"))
		switch {
		case err == nil:
			if key.Encrypt != master.Encrypt || key.MACK != master.MACK || key.MACR != master.MACR {
				t.Errorf("bit %d: another key", i)
			}
		case !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrWrongPassword):
			t.Errorf("bit %d: error %v", i, err)
		}
	}
}

func TestMasterKeyIsChecked(t *testing.T) {
	good := `{"mac":{"k":"AAAAAAAAAAAAAAAAAAAAAQ==","r":"AAAAAAAAAAAAAAAAAAAAAg=="},"encrypt":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAM="}`
	if _, err := parseMaster([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		``, `{}`, `[]`, `null`,
		`{"mac":{"k":"AAAAAAAAAAAAAAAAAAAAAQ==","r":"AAAAAAAAAAAAAAAAAAAAAg=="}}`,
		`{"mac":{"k":"AAAAAAAAAAAAAAAAAAAAAQ==","r":"AAAAAAAAAAAAAAAAAAAAAg=="},"encrypt":"AAAA"}`,
		`{"mac":{"k":"AAAAAAAAAAAAAAAAAAAAAA==","r":"AAAAAAAAAAAAAAAAAAAAAg=="},"encrypt":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAM="}`,
		`{"mac":{"k":"AAAAAAAAAAAAAAAAAAAAAQ==","r":7},"encrypt":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAM="}`,
	} {
		_, err := parseMaster([]byte(bad))
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error %v", bad, err)
		} else if bytes.Contains([]byte(err.Error()), []byte("AAAA")) {
			t.Errorf("%s: the error %v quotes the key", bad, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(newFile(f, seal.NewKey(), cheap))
	f.Add([]byte(`{"kdf":"scrypt","N":4,"r":1,"p":1,"salt":"","data":""}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		info, err := ParseInfo(text)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) || info != (Info{}) {
				t.Errorf("info %+v, error %v", info, err)
			}
			return
		}
		if err := info.Params.Check(); err != nil {
			t.Errorf("accepted what is refused: %v", err)
		}
		if info.Params.N*info.Params.R*info.Params.P > 1<<12 {
			return
		}
		if _, err := Open(text, []byte("pass")); err != nil && !errors.Is(err, ErrWrongPassword) && !errors.Is(err, ErrCorrupt) {
			t.Errorf("open: %v", err)
		}
	})
}

func FuzzParseMaster(f *testing.F) {
	f.Add([]byte(`{"mac":{"k":"AAAAAAAAAAAAAAAAAAAAAQ==","r":"AAAAAAAAAAAAAAAAAAAAAg=="},"encrypt":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAM="}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		if k, err := parseMaster(plain); (k == nil) == (err == nil) || err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("key %v, error %v", k != nil, err)
		}
	})
}
