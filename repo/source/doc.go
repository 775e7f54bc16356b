// Package source reads the tree that is being backed up: directories by descriptor, names in byte
// order, metadata as snapshot nodes, and it knows what the user wants left out. It stores
// nothing and holds no content.
//
//	Plan      which targets become which branches of the snapshot's root tree
//	Dir       an open directory: its entries, and metadata and files relative to it
//	NodeMaker metadata of one entry as a snapshot.Node
//	Filter    excludes: patterns, tag files, sizes, other file systems
//
// Everything below a Dir is opened relative to its descriptor without following a symbolic
// link, so that a path which changes while it is read cannot lead out of the tree, and
// the kernel resolves one name instead of the whole path. Access times are left alone
// (O_NOATIME) where the kernel permits it.
package source
