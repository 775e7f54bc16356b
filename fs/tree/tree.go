// Package tree is the virtual directory tree over the snapshots of a repository, without a
// FUSE type in it.
package tree
