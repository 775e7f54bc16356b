package chunker

import "testing"

// TestIrreducibleCounts compares with Gauss's numbers of irreducible polynomials of each
// degree over GF(2).
func TestIrreducibleCounts(t *testing.T) {
	for degree, want := range []int{0, 2, 1, 2, 3, 6, 9, 18, 30, 56, 99, 186, 335, 630} {
		got := 0
		for p := Pol(1) << degree; p < Pol(2)<<degree; p++ {
			if p.Irreducible() {
				got++
			}
		}
		if got != want {
			t.Errorf("degree %d: %d irreducible polynomials, want %d", degree, got, want)
		}
	}
}

func TestIrreducible(t *testing.T) {
	const f, g Pol = 0x3da3358b4dc173, 0x25b468838dcb75
	for _, test := range []struct {
		name string
		p    Pol
		want bool
	}{
		{"zero", 0, false},
		{"one", 1, false},
		{"x", 2, true},
		{"of a repository", testPol, true},
		{"of restic's documentation", g, true},
		{"of restic's chunker", f, true},
		{"even", testPol &^ 1, false},
		{"square of degree 53-1", square(0x4000047), false}, // (x^26 + …)^2
		{"degree 63, divisible by x+1", 1<<63 | 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.p.Irreducible(); got != test.want {
				t.Errorf("%v: %v, want %v", test.p, got, test.want)
			}
		})
	}
}

// square spreads the bits: cross terms cancel over GF(2).
func square(p Pol) (sq Pol) {
	for i := range 32 {
		sq |= p >> i & 1 << (2 * i)
	}
	return sq
}

func TestCheck(t *testing.T) {
	for _, test := range []struct {
		p  Pol
		ok bool
	}{
		{testPol, true},
		{0b1011, false},
		{testPol ^ 2, false},
		{1 << 63, false},
		{0, false},
	} {
		if err := test.p.Check(); (err == nil) != test.ok {
			t.Errorf("Check(%v) = %v, want ok %v", test.p, err, test.ok)
		}
	}
}

func TestRandomPol(t *testing.T) {
	seen := make(map[Pol]bool)
	for range 20 {
		p, err := RandomPol()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Check(); err != nil {
			t.Error(err)
		}
		if p&1 == 0 {
			t.Errorf("%v is even", p)
		}
		if seen[p] {
			t.Errorf("%v came twice", p)
		}
		seen[p] = true
	}
}

func TestParsePol(t *testing.T) {
	for _, test := range []struct {
		s    string
		want Pol
		ok   bool
	}{
		{"280d983b5f3f93", testPol, true},
		{"3", 3, true},
		{"ffffffffffffffff", 1<<64 - 1, true},
		{"", 0, false},
		{"0x3", 0, false},
		{"+3", 0, false},
		{"-3", 0, false},
		{"1_0", 0, false},
		{"10000000000000000", 0, false},
		{"xyz", 0, false},
	} {
		got, err := ParsePol(test.s)
		if got != test.want || (err == nil) != test.ok {
			t.Errorf("ParsePol(%q) = %v, %v, want %v, ok %v", test.s, got, err, test.want, test.ok)
		}
		if test.ok && got.String() != test.s {
			t.Errorf("%q came back as %q", test.s, got)
		}
	}
}
