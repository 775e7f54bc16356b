package chunker

// Pol is a polynomial over GF(2): bit i is the coefficient of x^i.
type Pol uint64

// RandomPol returns a random irreducible polynomial of degree 53.
func RandomPol() (Pol, error) { panic("not yet") }

// Irreducible reports whether p has no divisor but 1 and itself.
func (p Pol) Irreducible() bool { panic("not yet") }

// ParsePol reads the hexadecimal form of a repository's config, without 0x.
func ParsePol(s string) (Pol, error) { panic("not yet") }

// String returns the hexadecimal form of a repository's config, without 0x.
func (p Pol) String() string { panic("not yet") }
