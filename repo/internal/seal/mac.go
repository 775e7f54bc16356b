package seal

import "golang.org/x/crypto/poly1305" //lint:ignore SA1019 the format fixes Poly1305-AES, for which there is no other public implementation

// Poly1305 (RFC 8439, section 2.5) has each step wait for the one before: h = (h + block)·r modulo 2^130-5. The same sum of
// products is found by four lanes of a vector register, each of which takes every fourth block and multiplies by r^4: 9.0
// instead of 4.4 GB/s. Where there are no lanes (other processors, no cgo), and for short messages, golang.org/x/crypto does the work.
//
// AVX-512 IFMA has eight lanes and multiplies 52 bits instead of 32, which makes 17 GB/s (mac512.h), and r is the same for all
// messages of a Key, so its powers wait there. With VAES (aes512.h), which is twice as fast as AES-NI, vectors_cgo.go makes one
// pass of encryption and MAC.

const macBytes = poly1305.TagSize

// longBytes is the length from which lanes are worth the way to them, which is a call of C.
const longBytes = 2 << 10

// sumMAC sets mac to the tag of text under a key that is not used for another message.
func sumMAC(mac *[macBytes]byte, text []byte, key *[32]byte) {
	if lanesWork && len(text) >= longBytes {
		sumLanes(mac, text, key)
		return
	}
	poly1305.Sum(mac, text, key)
}
