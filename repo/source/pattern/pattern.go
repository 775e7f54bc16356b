// Package pattern decides whether a path is excluded, with restic's meaning of patterns. It does no I/O.
package pattern
