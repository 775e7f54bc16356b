package source

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Branch is a place in the snapshot's tree that targets made necessary: a target itself
// or a directory on the way to one. The root has no Path.
type Branch struct {
	Name     string    // in the snapshot
	Path     string    // on disk, absolute or relative to the working directory
	Target   bool      // named by the user: all of it belongs to the snapshot
	Children []*Branch // sorted by Name

	base string // of branches below the root: what the path is relative to
}

// Plan lays out the root tree for the targets:
//
//   - An absolute path becomes the chain of its components: /srv/a is srv, in it a.
//   - A relative path is cleaned and placed at the root under its components; leading
//     ".." are dropped: ../x/a is x, in it a.
//   - A target without a component of its own (".", "..", "/") stands for its entries.
//   - When two different directories claim one name at the root, the later one
//     gets a suffix: x, x-1, x-2.
//
// A target below another one does no harm: it is a Branch below a Target.
func Plan(targets []string) (*Branch, error) {
	root := new(Branch)
	for _, target := range targets {
		base, components := splitTarget(target)
		if len(components) > 0 {
			root.add(base, components)
			continue
		}
		d, err := OpenDir(base)
		if err != nil {
			return nil, err
		}
		entries, err := d.Entries()
		d.Close()
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			root.add(base, []string{e.Name})
		}
	}
	return root, nil
}

// splitTarget separates what a target is relative to ("/", ".", "..", "../..", …) from the
// components that appear in the snapshot.
func splitTarget(target string) (base string, components []string) {
	target = filepath.Clean(target)
	if rest, absolute := strings.CutPrefix(target, "/"); absolute {
		base, target = "/", rest
	} else {
		base = "."
		for target == ".." || strings.HasPrefix(target, "../") {
			base = filepath.Join(base, "..")
			target = strings.TrimPrefix(strings.TrimPrefix(target, ".."), "/")
		}
	}
	if target == "" || target == "." {
		return base, nil
	}
	return base, strings.Split(target, "/")
}

// add puts a target into the root's tree.
func (root *Branch) add(base string, components []string) {
	b := root.top(base, components[0])
	for _, name := range components[1:] {
		b = b.child(name)
	}
	b.Target = true
}

// top returns the branch below the root for a name relative to base.
func (root *Branch) top(base, name string) *Branch {
	path := filepath.Join(base, name)
	for _, b := range root.Children {
		if b.base == base && b.Path == path {
			return b
		}
	}
	unique := name
	for i := 1; root.find(unique) != nil; i++ {
		unique = name + "-" + strconv.Itoa(i)
	}
	return root.insert(&Branch{Name: unique, Path: path, base: base})
}

func (b *Branch) child(name string) *Branch {
	if c := b.find(name); c != nil {
		return c
	}
	return b.insert(&Branch{Name: name, Path: join(b.Path, name)})
}

func (b *Branch) search(name string) (int, bool) {
	return slices.BinarySearchFunc(b.Children, name, func(c *Branch, name string) int {
		return strings.Compare(c.Name, name)
	})
}

func (b *Branch) find(name string) *Branch {
	if i, ok := b.search(name); ok {
		return b.Children[i]
	}
	return nil
}

func (b *Branch) insert(c *Branch) *Branch {
	i, _ := b.search(c.Name)
	b.Children = slices.Insert(b.Children, i, c)
	return c
}

// Abs returns the absolute, cleaned paths of targets, as they are noted in a snapshot.
func Abs(targets []string) ([]string, error) {
	paths := make([]string, len(targets))
	for i, target := range targets {
		abs, err := filepath.Abs(target)
		if err != nil {
			return nil, fmt.Errorf("target %q: %w", target, err)
		}
		paths[i] = abs
	}
	return paths, nil
}
