package chunker

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math/bits"
	"strconv"
)

// degree is that of every polynomial a repository uses.
const degree = 53

// Pol is a polynomial over GF(2): bit i is the coefficient of x^i.
type Pol uint64

// RandomPol returns a random irreducible polynomial of degree 53, so that nobody can tell
// from the lengths of chunks what a repository holds. About one candidate in 26 is
// irreducible.
func RandomPol() (Pol, error) {
	for {
		var b [8]byte
		if _, err := rand.Read(b[:]); err != nil {
			return 0, fmt.Errorf("make random polynomial: %w", err)
		}
		p := Pol(binary.LittleEndian.Uint64(b[:]))
		p &= 1<<(degree+1) - 1
		p |= 1<<degree | 1
		if p.Irreducible() {
			return p, nil
		}
	}
}

// Irreducible reports whether p has no divisor but 1 and itself. It is Ben-Or's test: p of
// degree n is irreducible if it has no common divisor with x^(2^i) - x for any i up to
// n/2, because that is the product of all irreducible polynomials whose degree divides i.
func (p Pol) Irreducible() bool {
	n := p.deg()
	if n < 1 {
		return false
	}
	power := Pol(2).mod(p) // x^(2^i) mod p
	for range n / 2 {
		power = power.mulMod(power, p)
		if gcd(p, power^Pol(2).mod(p)) != 1 {
			return false
		}
	}
	return true
}

// Check returns an error that says why p cannot be the polynomial of a repository: it must
// be irreducible and of degree 53.
func (p Pol) Check() error {
	if p.deg() != degree {
		return fmt.Errorf("chunker polynomial %v: degree %d, want %d", p, p.deg(), degree)
	}
	if !p.Irreducible() {
		return fmt.Errorf("chunker polynomial %v: not irreducible", p)
	}
	return nil
}

// ParsePol reads the hexadecimal form of a repository's config, without 0x. Use Check to
// see whether it is good for chunking.
func ParsePol(s string) (Pol, error) {
	v, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		return 0, fmt.Errorf("chunker polynomial %.80q: want at most 16 hexadecimal digits", s)
	}
	return Pol(v), nil
}

// String returns the hexadecimal form of a repository's config, without 0x.
func (p Pol) String() string { return strconv.FormatUint(uint64(p), 16) }

// deg returns the degree, -1 for zero.
func (p Pol) deg() int { return bits.Len64(uint64(p)) - 1 }

// mod returns p modulo m, which is not zero.
func (p Pol) mod(m Pol) Pol {
	for d := p.deg() - m.deg(); d >= 0; d = p.deg() - m.deg() {
		p ^= m << d
	}
	return p
}

// mulMod returns p·q modulo m. p and q are smaller than m, the degree of m below 64.
func (p Pol) mulMod(q, m Pol) Pol {
	top := Pol(1) << m.deg()
	var sum Pol
	for q != 0 {
		if q&1 != 0 {
			sum ^= p
		}
		q >>= 1
		if p <<= 1; p&top != 0 {
			p ^= m
		}
	}
	return sum
}

func gcd(a, b Pol) Pol {
	for b != 0 {
		a, b = b, a.mod(b)
	}
	return a
}
