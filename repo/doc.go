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
