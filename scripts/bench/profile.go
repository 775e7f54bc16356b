package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// stage is a part of the work of a backup.
type stage int

const (
	rest stage = iota // what nothing below fits
	reading
	cutting
	hashing
	compressing
	sealing
	verifying
	packing
	hashingPacks
	writing
	deriving
	indexing
	running
)

var stageNames = map[stage]string{
	reading: "reading", cutting: "cutting", hashing: "SHA-256 of blobs", compressing: "compressing", sealing: "encrypting and MAC",
	verifying: "verifying", packing: "copying into packs", hashingPacks: "SHA-256 of packs", writing: "writing to the store",
	deriving: "deriving the key", indexing: "index, metadata and trees", running: "memory, garbage collection, scheduler", rest: "rest",
}

// stagesInOrder is how the work goes, what is left last.
var stagesInOrder = []stage{reading, cutting, hashing, compressing, sealing, verifying, packing, hashingPacks, writing, deriving, indexing, running, rest}

// spent is the processor time of a profile by stage. stacks are those of the rest.
type spent struct {
	by     map[stage]time.Duration
	stacks map[string]time.Duration
}

// add takes in what another profile shows.
func (s *spent) add(other *spent) {
	for at, d := range other.by {
		s.by[at] += d
	}
	for stack, d := range other.stacks {
		s.stacks[stack] += d
	}
}

// sum is that of all stages.
func (s *spent) sum() (all time.Duration) {
	for _, d := range s.by {
		all += d
	}
	return all
}

// largest returns the n stacks of the rest that took most.
func (s *spent) largest(n int) []string {
	stacks := slices.SortedFunc(maps.Keys(s.stacks), func(a, b string) int {
		return cmp.Or(cmp.Compare(s.stacks[b], s.stacks[a]), cmp.Compare(a, b))
	})
	return stacks[:min(n, len(stacks))]
}

// stagesOf adds up the samples of a profile of processor time. Work in C is that of the Go function which called it.
func stagesOf(p *profile.Profile) *spent {
	s := &spent{map[stage]time.Duration{}, map[string]time.Duration{}}
	cpu := len(p.SampleType) - 1
	for i, t := range p.SampleType {
		if t.Type == "cpu" {
			cpu = i
		}
	}
	for _, sample := range p.Sample {
		var stack []frame
		for _, at := range sample.Location {
			for _, line := range at.Line { // inlined ones first
				if line.Function != nil {
					stack = append(stack, frameOf(line.Function.Name))
				}
			}
		}
		took := time.Duration(sample.Value[cpu])
		in := stageOf(stack)
		s.by[in] += took
		if in == rest {
			s.stacks[spell(stack)] += took
		}
	}
	return s
}

// spell is a stack as a line, the caller last.
func spell(stack []frame) string {
	var names []string
	for _, f := range stack {
		names = append(names, f.pkg+"."+f.name)
	}
	return strings.Join(names, " < ")
}

// frame is a function of a stack.
type frame struct{ pkg, name string }

// frameOf splits the name of a function, as in vitrine/repo.(*Writer).SaveBlobs.
func frameOf(function string) frame {
	slash := strings.LastIndexByte(function, '/') + 1
	pkg, name, _ := strings.Cut(function[slash:], ".")
	return frame{function[:slash] + pkg, name}
}

// ours reports whether the function is of the program, or of the compressor that it brings.
func (f frame) ours() bool { return strings.HasPrefix(f.pkg, "vitrine/") }

// stageOf tells what a stack, the innermost function first, works at. The innermost package of the program decides, by the
// function that was called from outside of it, for what it is made of inside changes.
func stageOf(stack []frame) stage {
	at := slices.IndexFunc(stack, frame.ours)
	if at < 0 {
		if slices.ContainsFunc(stack, func(f frame) bool { return !ofRuntime(f.pkg) }) {
			return rest
		}
		return running
	}
	below, entry := stack[:at], at
	for entry+1 < len(stack) && stack[entry+1].pkg == stack[at].pkg {
		entry++
	}
	if allocates(below) {
		return running
	}
	f := stack[at]
	switch f.pkg {
	case "vitrine/repo/chunker":
		return cutting
	case "vitrine/repo/internal/compress":
		return either(contains(stack[entry].name, "ecompress", "Matches"), verifying, compressing)
	case "vitrine/repo/internal/seal":
		return either(contains(stack[entry].name, "Verify", "Open"), verifying, sealing)
	case "vitrine/repo/internal/sha256many", "vitrine/repo/blob":
		return either(slices.ContainsFunc(stack[entry:], frame.storesPacks), hashingPacks, hashing)
	case "vitrine/repo/internal/scrypt", "vitrine/repo/internal/keyfile":
		return deriving
	case "vitrine/repo/internal/packfile":
		return packing
	case "vitrine/repo/backend/local":
		return writing
	case "vitrine/repo/internal/indexfile", "vitrine/repo/blobtable", "vitrine/cache/indexdb", "vitrine/repo/snapshot":
		return indexing
	case "vitrine/repo":
		return ofRepository(below, stack[at:entry+1])
	case "vitrine/repo/archive", "vitrine/repo/source":
		return ofArchive(below, f)
	}
	return rest
}

// ofRepository tells apart what package repo does itself.
func ofRepository(below, own []frame) stage {
	has := func(names ...string) bool {
		return slices.ContainsFunc(own, func(f frame) bool { return contains(f.name, names...) })
	}
	switch {
	case has("(*encoder)") && slices.ContainsFunc(below, func(f frame) bool { return contains(f.name, "equal", "Equal") }):
		return verifying
	case has("(*packer)", "packBuffers", "(*finished)"):
		return packing
	case has("(*claims)", "(*lister)", "Known", "LookupBlob", "newLister"):
		return indexing
	case scheduling(below):
		return running
	}
	return rest
}

// ofArchive tells reading from the rest of a walk, and from waiting for each other.
func ofArchive(below []frame, f frame) stage {
	switch {
	case contains(f.name, "Read", "read") || slices.ContainsFunc(below, frame.reads):
		return reading
	case len(below) > 0 && below[len(below)-1].pkg == "runtime" && contains(below[len(below)-1].name, "memmove"):
		return reading // what is left of a segment goes on in the next one
	case scheduling(below):
		return running
	}
	return indexing
}

// storesPacks is about the function that hashes packs and hands them to the store.
func (f frame) storesPacks() bool {
	return f.pkg == "vitrine/repo" && strings.HasPrefix(f.name, "(*Writer).store")
}

// reads is about a system call that reads.
func (f frame) reads() bool {
	switch f.pkg {
	case "os", "syscall", "internal/poll", "golang.org/x/sys/unix":
		return contains(f.name, "read", "Read")
	}
	return false
}

// allocates reports whether a call, the outermost function last, was for memory.
func allocates(below []frame) bool {
	return slices.ContainsFunc(below, func(f frame) bool {
		return f.pkg == "runtime" && contains(f.name, "mallocgc", "growslice", "makeslice", "newobject", "gcAssist", "bgsweep", "morestack")
	})
}

// scheduling reports whether a call was for other goroutines: those of channels, locks and groups.
func scheduling(below []frame) bool {
	return len(below) > 0 && !slices.ContainsFunc(below, func(f frame) bool { return !ofRuntime(f.pkg) && f.pkg != "sync" && f.pkg != "internal/sync" })
}

// ofRuntime reports whether a package is a part of Go's runtime.
func ofRuntime(pkg string) bool {
	return pkg == "runtime" || strings.HasPrefix(pkg, "runtime/") || strings.HasPrefix(pkg, "internal/runtime/")
}

func contains(name string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(name, part) })
}

func either(condition bool, yes, no stage) stage {
	if condition {
		return yes
	}
	return no
}
