package readahead

import "time"

const (
	// A store nearby gets the least window, one far away what its latency and rate demand, in
	// bounds.
	minWindow, maxWindow = 8 << 20, 64 << 20
	// One request should take longer than its latency, but several are to be under way.
	minRequest, maxRequest = 1 << 20, 4 << 20
	// What may be fetched for nothing between two blobs, rather than ask twice.
	minGap, maxGap = 64 << 10, 1 << 20
	// forgetting is how many requests it takes until the figures follow a path that got worse.
	forgetting = 64
)

// Path is what the requests so far tell of the way to the store. The zero value knows nothing and
// takes it to be near.
type Path struct {
	latency        time.Duration // of the fastest requests
	bytesPerSecond float64       // of all requests together when the path was full
}

// Sample notes a request that took so long, while all requests together, this one included,
// brought carriedBytes.
func (p *Path) Sample(took time.Duration, carriedBytes int64) {
	took = max(took, time.Microsecond)
	rate := float64(carriedBytes) / took.Seconds()
	if p.latency == 0 || took < p.latency {
		p.latency = took
	} else {
		p.latency += (took - p.latency) / forgetting
	}
	if rate > p.bytesPerSecond {
		p.bytesPerSecond = rate
	} else {
		p.bytesPerSecond -= (p.bytesPerSecond - rate) / forgetting
	}
}

// product is how many bytes are under way when the path is full.
func (p *Path) product() float64 { return p.latency.Seconds() * p.bytesPerSecond }

// Window returns how far ahead of a reader to be, in bytes. It is twice what keeps the path full, so
// that the figures grow until the path is.
func (p *Path) Window() uint64 { return uint64(min(max(2*p.product(), minWindow), maxWindow)) }

// Latency is how long the fastest requests take.
func (p *Path) Latency() time.Duration { return p.latency }

// Request returns the length of a request, in bytes.
func (p *Path) Request() int { return int(min(max(p.product(), minRequest), maxRequest)) }

// Gap returns how many bytes between two blobs to fetch for nothing.
func (p *Path) Gap() int { return int(min(max(p.product(), minGap), maxGap)) }
