package keyfile

import (
	"fmt"
	"math/bits"
	"time"

	"golang.org/x/crypto/scrypt"
)

// Limits of Params.Check. Costs come from a file that whoever can write to the repository can
// replace, so they must not be able to exhaust the machine.
const (
	// MaxMemoryBytes is the most that a derivation may allocate, 16 times what Calibrate chooses.
	MaxMemoryBytes = 512 << 20
	// maxWork bounds N·r·p, which the time is proportional to: about 100 times Default.
	maxWork = 1 << 27
)

// Params are the costs of scrypt. Memory is about 128·N·R bytes, time proportional to N·R·P.
type Params struct{ N, R, P int }

// Default is what Calibrate finds on an ordinary machine of 2020.
var Default = Params{N: 1 << 15, R: 8, P: 5}

// Check refuses costs that scrypt does not define (N is a power of two above 1, R and P are
// positive) and those beyond MaxMemoryBytes of memory or a minute or so of time. Low costs
// are allowed: they are bad, but a repository that has them must stay readable.
func (p Params) Check() error {
	if p.N < 2 || p.N&(p.N-1) != 0 {
		return fmt.Errorf("scrypt cost N=%d is not a power of two above 1", p.N)
	}
	if p.R < 1 || p.P < 1 {
		return fmt.Errorf("scrypt costs r=%d, p=%d are not positive", p.R, p.P)
	}
	const blockBytes = 128
	const limit = MaxMemoryBytes / blockBytes
	n, r, par := int64(p.N), int64(p.R), int64(p.P)
	if max(n, r, par) > limit || n*r+r*par+2*r > limit {
		return fmt.Errorf("scrypt costs N=%d, r=%d, p=%d take more than %d MiB of memory", p.N, p.R, p.P, MaxMemoryBytes>>20)
	}
	if n*r > maxWork/par {
		return fmt.Errorf("scrypt costs N=%d, r=%d, p=%d take too long", p.N, p.R, p.P)
	}
	return nil
}

// minWork is the least N·P that Calibrate chooses at its R: three fifths of Default.
const minWork = 3 << 15

// Calibrate returns costs such that one derivation takes about target on this machine within
// memoryBytes (use half a second and 60 MiB), 4 MiB at least. It spends memory first, because
// that is what scrypt makes dear to an attacker, then time through P. It takes about half of
// target itself.
//
// A machine that is slow, or looks slow because it is busy, gets minWork all the same and takes
// longer than target: the attacker's machine is neither, and a key file stays as weak as it was
// made.
func Calibrate(target time.Duration, memoryBytes int) Params {
	return calibrate(target, memoryBytes, func(p Params) time.Duration {
		start := time.Now()
		// The ordinary implementation on one processor, not ours: the costs are meant for the attacker, and
		// other clients open the repository too.
		// The costs are ours and valid; a failure would only make the measurement short.
		_, _ = scrypt.Key([]byte("calibrate"), make([]byte, saltBytes), p.N, p.R, p.P, 64)
		return time.Since(start)
	})
}

// calibrate is Calibrate with the clock as a parameter.
func calibrate(target time.Duration, memoryBytes int, measure func(Params) time.Duration) Params {
	const (
		r    = 8
		minN = 1 << 12
		maxP = 32 // of a measurement that cannot be true
	)
	memoryBytes = min(memoryBytes, MaxMemoryBytes/2)
	p := Params{N: minN, R: r, P: 1}
	if blocks := memoryBytes / (128 * r); blocks > minN {
		p.N = 1 << (bits.Len(uint(blocks)) - 1)
	}
	// The shorter of two runs: the first one also takes the memory from the system.
	took := max(min(measure(p), measure(p)), 1)
	minP := (minWork + p.N - 1) / p.N
	p.P = max(int(min((target+took/2)/took, maxP)), minP)
	return p
}
