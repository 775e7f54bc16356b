// Package repo is a repository: blobs in, blobs out, and the small sealed files beside
// them. It knows the format (FORMAT.md, restic versions 1 and 2) and the order in which
// files must become durable; it knows neither files of a source tree nor FUSE.
//
// # Durable order
//
// Everything a file refers to is durable before the file itself appears:
//
//	pack files → index files that list them → the snapshot
//
// Write returns nil only when packs and index are durable; a caller saves its snapshot after
// that. A crash between two steps leaves packs or index files nobody refers to: space that
// the next prune takes back, never a reference to something missing. Removal goes the other
// way round, under an exclusive lock: snapshot → new packs → new index → old index → old packs.
//
// Index files come while packs are stored, each when the oldest pack that waits for one is a twelfth as old as the
// scope (3 s to 10 min), written beside the uploads. Each time the scope also looks what other clients have listed,
// so that it does not store that too: neither what it reads from then on, nor what waits in packs that are not on
// their way. What is still stored twice by two clients at work on the same new blobs is what each is storing when
// they meet (two packs), and what it has stored and not listed (a twelfth of its time).
//
// A client that is killed leaves packs that no index file lists. Adopt lists them, from their headers, when the
// next client of that host finds the dead lock: nothing that was stored is stored again.
//
// Readers hold no lock. They list snapshots before they look at the index, and treat a
// vanished pack as "refresh the index and look again".
//
// # Pack layout
//
// All data blobs of a write scope go to one open pack in the order in which they arrive,
// and all tree blobs to another one. restic spreads the chunks of a file over several open
// packs, to make it harder to tell a known file by its chunk sizes; vitrine keeps them
// together, because a mount that finds neighbours together reads an order of magnitude fewer
// ranges. Who fears that attack chooses a large --pack-size.
package repo
