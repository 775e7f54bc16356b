package chunker

// A fingerprint waits for the one before it: one stream leaves most of the processor idle.
// But it depends on 64 bytes only, so several streams can start anywhere once they have
// read the 64 bytes before. scanStreams divides blocks of the data into four streams that
// lie one behind the other and takes a step in each by turns.
const streamBytes = 4 << 10

// block is four streams and the window before the first.
type block [windowBytes + 4*streamBytes]byte

// scanStreams does what scan does, two to three times as fast.
func (c *Chunker) scanStreams(p []byte, from int) int {
	for len(p)-from > 4*streamBytes {
		if n := c.scanBlock((*block)(p[from-windowBytes:])); n >= 0 {
			return from + n
		}
		from += 4 * streamBytes
	}
	return c.scan(p, from)
}

// scanBlock returns the first cut in the streams of p, counted from the begin of the
// first, or -1. A cut behind the last byte is left to the next block.
func (c *Chunker) scanBlock(p *block) int {
	const s1, s2, s3 = streamBytes, 2 * streamBytes, 3 * streamBytes
	var d0, d1, d2, d3 uint64
	for i := range windowBytes {
		d0 = d0<<8 ^ c.mod[uint8(d0>>topShift)] ^ uint64(p[i])
		d1 = d1<<8 ^ c.mod[uint8(d1>>topShift)] ^ uint64(p[i+s1])
		d2 = d2<<8 ^ c.mod[uint8(d2>>topShift)] ^ uint64(p[i+s2])
		d3 = d3<<8 ^ c.mod[uint8(d3>>topShift)] ^ uint64(p[i+s3])
	}
	for i := range streamBytes {
		if d0&cutMask == 0 || d1&cutMask == 0 || d2&cutMask == 0 || d3&cutMask == 0 {
			return c.scanEarlier(p, [4]uint64{d0, d1, d2, d3}, i)
		}
		d0 = d0<<8 ^ uint64(p[i+windowBytes]) ^ c.out[p[i]] ^ c.mod[uint8(d0>>topShift)]
		d1 = d1<<8 ^ uint64(p[i+windowBytes+s1]) ^ c.out[p[i+s1]] ^ c.mod[uint8(d1>>topShift)]
		d2 = d2<<8 ^ uint64(p[i+windowBytes+s2]) ^ c.out[p[i+s2]] ^ c.mod[uint8(d2>>topShift)]
		d3 = d3<<8 ^ uint64(p[i+windowBytes+s3]) ^ c.out[p[i+s3]] ^ c.mod[uint8(d3>>topShift)]
	}
	return -1
}

// scanEarlier decides when one of the streams, which have the fingerprints d before their
// byte i, is at a cut: a stream before it may still meet one.
func (c *Chunker) scanEarlier(p *block, d [4]uint64, i int) int {
	for k, d := range d {
		start := k * streamBytes
		for j := i; j < streamBytes; j++ {
			if d&cutMask == 0 {
				return start + j
			}
			d = c.slide(d, p[start+j], p[start+j+windowBytes])
		}
	}
	return -1
}
