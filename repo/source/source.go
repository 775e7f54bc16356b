// Package source reads the tree that is being backed up: directories by descriptor, so that a
// path is resolved once; names in byte order; metadata as snapshot nodes; and what
// the user wants left out. It stores nothing.
package source

// Filter leaves things out of a backup. The zero value keeps all.
type Filter struct{}
