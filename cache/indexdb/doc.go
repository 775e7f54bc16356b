// Package indexdb maps blobs to their places in pack files without holding the repository's
// index in memory. DB keeps it in Badger below the cache directory, Memory in RAM only.
//
// # Shape
//
// Most of the index lies in one immutable generation, a Badger database that a child process wrote
// once and that everybody opens read-only; any number of processes share it. Index files that
// are newer lie in sorted runs of 32 bytes per entry: in RAM while there are not many (spillEntries), the others on disk, in a file
// without a name (package spill), masked as in a generation. Each index file is in the
// generation or in exactly one run; index files known already are not even downloaded.
//
//	<dir>/CURRENT             which generation holds, sealed; replaced by rename
//	<dir>/gen-000017-9f3a…/   Badger (MANIFEST, KEYREGISTRY, *.sst) and the pack table "packs"
//	<dir>/build.lock          flock of the process that builds the next generation
//
// When the runs outgrow max(20 000 entries, 5 %) or 64 index files, or a quarter of the
// generation is dead, a background goroutine merges everything into the next generation: the
// parent streams it sorted and masked through a pipe, the child writes Badger's tables, the
// parent checks them, renames CURRENT and drops the runs. Lookups never wait for that. Why a
// child: Badger writes through mmap, and a full disk is a SIGBUS that no Go program survives.
// The child may die of anything; the parent goes on from RAM and says why in its log. (A
// generation costs 0.4 µs of CPU time per entry, so the limits are a tenth of what DESIGN.md
// first assumed.)
//
// An index file that vanished (prune ran elsewhere) is noted in RAM as dead, and its entries are
// answered no more from that moment. This is why every place of a blob is kept, also when
// several packs hold it, and why the pack table knows which index file a pack came from. The next
// generation leaves the dead out.
//
// # Formats
//
// A blob's key: k = AES(p, AES(p, id[0:16]) xor id[16:32]), 16 bytes, with one AES-256 key p
// per blob type. That is CBC-MAC over messages of exactly two blocks, a pseudo-random function
// for up to 2^50 blobs and more; it takes two AES calls where HMAC takes four SHA-256 blocks.
// All 32 bytes of the ID take part: with half of it, whoever can compute 2^64 hashes could make
// two chunks of one key. Without p, a thief of the cache cannot tell whether a file he knows is
// in the repository, and whoever can write to the cache can make blobs seem absent but not
// present. Keys are uniformly distributed: the first b bits of a key are its bucket, and runs
// are sorted and searched by such bits, too.
//
// Badger key: the bucket's number, 4 bytes big-endian; a generation has all 2^b buckets, so
// Badger's "not found" always means damage (it says so too when a block's checksum is wrong).
// Badger value: the byte 1, then the bucket's entries, 8 to 16 on average, sorted by key:
//
//	16  key
//	16  AES(v, key xor place), an AES-256 block; place =
//	    4 pack number   4 offset   4 length   4 plain length (0: uncompressed)     little-endian
//
// One Badger entry per bucket instead of one per blob. Measured with 4 million blobs: the
// builder takes 1.0 s of CPU time instead of 5, the generation 34 bytes per blob instead of 51,
// and damage never looks like absence, as it does where Badger's Get passes over a block whose
// checksum is wrong. The price: a blob that is not there costs as much as one that is, 7 µs of
// CPU time, where a bloom filter in memory would say so in 1 µs.
//
// packs: pages of 64 rows, 36 bytes each: 32 pack ID, 4 number of the index file in CURRENT's
// list. Each page is sealed with AES-256-GCM under a key of this generation, its number is the
// nonce. Pages are read when first needed and kept.
//
// CURRENT: 16 bytes magic, 12 nonce, AES-256-GCM of the JSON of type meta. It has the size of
// every file and the SHA-256 of those parts that Badger trusts blindly when it opens (table
// indexes, last block, MANIFEST): a bit flipped there would end the process (log.Fatal, or a
// panic in a goroutine of Badger). Anything odd: CURRENT is removed, the index files are read
// anew, the next generation is built.
//
// # What may happen at any moment
//
// kill -9 of anybody: CURRENT names a whole generation or the one before; leftovers go when
// somebody holds build.lock and an exclusive flock on them (readers hold a shared one). Removal
// of the directory: open files stay readable, the next build makes it anew. Truncation of a
// mapped file or a disk that fails: the fault becomes an error (debug.SetPanicOnFault), the
// entries are read from the repository again, and the lookup that met it answers from those.
// One thing is not caught: wrong bytes that appear in the index of a table after it was checked
// and mapped, where Badger ends the process.
package indexdb
