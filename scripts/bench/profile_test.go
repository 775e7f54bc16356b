package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

// stackOf is a stack written as functions, the innermost first.
func stackOf(functions string) []frame {
	var stack []frame
	for function := range strings.SplitSeq(functions, " < ") {
		stack = append(stack, frameOf(function))
	}
	return stack
}

func TestStageOf(t *testing.T) {
	const saves = " < vitrine/repo.(*Writer).SaveHashed < vitrine/repo.(*Writer).SaveBlobs < vitrine/repo/archive.(*run).chunk"
	const encodes = " < vitrine/repo.(*encoder).encode" + saves
	const stores = " < vitrine/repo.(*Writer).store < vitrine/repo.(*Repository).write.func1.1 < golang.org/x/sync/errgroup.(*Group).Go.func1"
	for _, c := range []struct {
		want  stage
		stack string
	}{
		{reading, "internal/runtime/syscall.Syscall6 < syscall.RawSyscall6 < syscall.Syscall < syscall.read < syscall.Read < golang.org/x/sys/unix.Read < vitrine/repo/source.(*File).Read < vitrine/repo/archive.(*run).readChunks"},
		{reading, "internal/runtime/syscall.Syscall6 < syscall.pread < internal/poll.(*FD).Pread < os.(*File).ReadAt < vitrine/repo/archive.(*run).another"},
		{reading, "runtime.memmove < vitrine/repo/archive.(*run).nextSegment < vitrine/repo/archive.(*run).readChunks"},
		{cutting, "vitrine/repo/chunker.(*Chunker).anything < vitrine/repo/chunker.(*Chunker).Cut < vitrine/repo/archive.(*run).readChunks"},
		{cutting, "runtime.cgocall < vitrine/repo/chunker._Cfunc_cut < vitrine/repo/chunker.(*Chunker).Cut < vitrine/repo/archive.(*run).readChunks"},
		{hashing, "vitrine/repo/internal/sha256many.blocks2 < vitrine/repo/internal/sha256many.Sums < vitrine/repo.(*Writer).SaveBlobs < vitrine/repo/archive.(*run).chunk"},
		{hashing, "vitrine/repo/internal/sha256many.blocks16 < vitrine/repo/internal/sha256many.(*Lanes).goOn < vitrine/repo/internal/sha256many.(*Lanes).End < vitrine/repo/archive.(*run).dispatchHashed < vitrine/repo/archive.(*run).add < vitrine/repo/archive.(*run).readChunks"},
		{hashing, "crypto/sha256.block < crypto/sha256.Sum256 < vitrine/repo/blob.Hash < vitrine/repo.(*Writer).SaveBlob < vitrine/repo/archive.(*run).finish"},
		{compressing, "runtime.cgocall < github.com/DataDog/zstd._Cfunc_ZSTD_compressCCtx < vitrine/repo/internal/compress.(*encoder).appendFrame < vitrine/repo/internal/compress.(*Codec).Compress" + encodes},
		{compressing, "runtime.cgocall < vitrine/repo/internal/compress.(*encoder).appendFrame < vitrine/repo/internal/compress.(*Codec).hopeless < vitrine/repo/internal/compress.(*Codec).Compress" + encodes},
		{sealing, "crypto/internal/fips140/aes.ctrBlocks8Asm < crypto/cipher.(*ctr).XORKeyStream < vitrine/repo/internal/seal.(*Key).Seal" + encodes},
		{sealing, "runtime.cgocall < vitrine/repo/internal/seal.sumLanes < vitrine/repo/internal/seal.sumMAC < vitrine/repo/internal/seal.(*Key).Seal" + encodes},
		{verifying, "runtime.cgocall < vitrine/repo/internal/seal.sumLanes < vitrine/repo/internal/seal.verifyMAC < vitrine/repo/internal/seal.(*Key).check < vitrine/repo/internal/seal.(*Key).Verify" + encodes},
		{verifying, "memeqbody < bytes.Equal < vitrine/repo/internal/seal.(*Key).Verify" + encodes},
		{verifying, "runtime.cgocall < vitrine/repo/internal/compress.decodeInto < vitrine/repo/internal/compress.Decompress" + encodes},
		{verifying, "runtime.cgocall < vitrine/repo/internal/compress.matches < vitrine/repo/internal/compress.Matches < vitrine/repo.(*Repository).verifySealed" + encodes},
		{verifying, "internal/bytealg.memequal < bytes.Equal" + encodes},
		{packing, "runtime.memmove < vitrine/repo.(*packer).add" + saves},
		{packing, "vitrine/repo/internal/packfile.Finish" + stores},
		{hashingPacks, "vitrine/repo/internal/sha256many.blocks2 < vitrine/repo/internal/sha256many.(*Lanes).both < vitrine/repo/internal/sha256many.(*Lanes).End < vitrine/repo/internal/sha256many.Sums" + stores},
		{writing, "internal/runtime/syscall.Syscall6 < syscall.write < os.(*File).Write < vitrine/repo/backend/local.writeSynced < vitrine/repo/backend/local.(*Backend).Save < vitrine/repo.(*Writer).storePack" + stores},
		{deriving, "vitrine/repo/internal/scrypt.core < vitrine/repo/internal/scrypt.Key < vitrine/repo/internal/keyfile.Open < vitrine/repo.Open"},
		{indexing, "encoding/json.Marshal < vitrine/repo/internal/indexfile.Append < vitrine/repo.(*lister).flush < vitrine/repo.(*Repository).write"},
		{indexing, "runtime.mapassign < vitrine/repo.(*claims).add" + saves},
		{indexing, "syscall.Getdents < vitrine/repo/source.(*Dir).list < vitrine/repo/archive.(*walker).dir"},
		{running, "runtime.memclrNoHeapPointers < runtime.mallocgc < runtime.makeslice < vitrine/repo.sized" + encodes},
		{running, "runtime.scanobject < runtime.gcDrain < runtime.gcBgMarkWorker.func2 < runtime.systemstack < runtime.gcBgMarkWorker"},
		{running, "runtime.futex < runtime.notesleep < runtime.findRunnable < runtime.schedule < runtime.mcall"},
		{running, "runtime.ready < runtime.send < runtime.chansend < runtime.chansend1 < vitrine/repo/archive.(*run).another"},
		{running, "runtime.futex < runtime.semawakeup < sync.(*Mutex).Unlock < vitrine/repo.(*encoders).put < vitrine/repo.(*Writer).SaveHashed"},
		{rest, "compress/gzip.(*Writer).Write < runtime/pprof.(*profileBuilder).build < runtime/pprof.profileWriter"},
		{rest, "vitrine/fs.serve < main.main"},
		{rest, "vitrine/repo.unheard < main.main"},
	} {
		if got := stageOf(stackOf(c.stack)); got != c.want {
			t.Errorf("%q is %q, want %q", c.stack, stageNames[got], stageNames[c.want])
		}
	}
}

// inlined is a profile of one stack, whose two inner functions are at one address, and of one that fits nothing.
func inlined() *profile.Profile {
	name := func(names ...string) *profile.Location {
		at := new(profile.Location)
		for _, n := range names {
			at.Line = append(at.Line, profile.Line{Function: &profile.Function{Name: n}})
		}
		return at
	}
	return &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		Sample: []*profile.Sample{
			{Value: []int64{3, 30e6}, Location: []*profile.Location{name("vitrine/repo/chunker.roll", "vitrine/repo/chunker.(*Chunker).Cut"), name("vitrine/repo/archive.cut")}},
			{Value: []int64{1, 10e6}, Location: []*profile.Location{name("elsewhere.a"), name("main.main")}},
		},
	}
}

func TestStagesOf(t *testing.T) {
	s := stagesOf(inlined())
	s.add(stagesOf(inlined()))
	if s.by[cutting] != 60*time.Millisecond || s.by[rest] != 20*time.Millisecond || s.sum() != 80*time.Millisecond {
		t.Errorf("stages are %v", s.by)
	}
	if got := s.largest(3); len(got) != 1 || got[0] != "elsewhere.a < main.main" || s.stacks[got[0]] != 20*time.Millisecond {
		t.Errorf("the rest is %q of %v", got, s.stacks)
	}
}

func TestEveryStageHasAName(t *testing.T) {
	if len(stagesInOrder) != len(stageNames) || len(stageNames) != int(running)+1 {
		t.Errorf("%d stages, %d in the table, %d names", int(running)+1, len(stagesInOrder), len(stageNames))
	}
}

func TestCodecLimits(t *testing.T) {
	const output = `goos: linux
BenchmarkLimit/cut         	       2	  99000000 ns/op	2000.00 MB/s
BenchmarkLimit/cut         	       2	  99000000 ns/op	2500.00 MB/s
BenchmarkLimit/hash-2      	       2	  99000000 ns/op	4000.00 MB/s	       0 B/op
BenchmarkLimit/compress    	       2	  99000000 ns/op	 500.00 MB/s
BenchmarkLimit/seal        	       2	  99000000 ns/op	1000.00 MB/s
BenchmarkLimit/verify      	       2	  99000000 ns/op	 800.00 MB/s
PASS
`
	l, err := codecLimits(output)
	if err != nil || len(l) != 5 || l[cutting] != 1/2.5e9 || l[verifying] != 1/8e8 {
		t.Errorf("limits are %v, %v", l, err)
	}
	for _, broken := range []string{"PASS\n", strings.Replace(output, "/seal", "/weal", 1), strings.Replace(output, "/seal", "/cut", 1)} {
		if l, err := codecLimits(broken); err == nil {
			t.Errorf("limits of broken output are %v", l)
		}
	}
}

func TestCostTable(t *testing.T) {
	c := &cost{name: "tar", plainBytes: 1 << 31, storedBytes: 1 << 30, runs: []usage{{wall: 3 * time.Second, cpu: 5 * time.Second}, {wall: 5 * time.Second, cpu: 7 * time.Second}},
		spent:  spent{by: map[stage]time.Duration{cutting: 4 * time.Second, rest: time.Second}},
		limits: limits{cutting: 0.5 / (1 << 30)}}
	got := strings.Join(costTable([]*cost{c}), "\n")
	for _, want := range []string{
		"| s/GiB | tar | limit | of limit |\n|---|---|---|---|\n",
		"| cutting | 1.000 | 0.500 | 2.00 |\n",
		"| rest | 0.250 | – | – |\n",
		"| not sampled | 1.750 | – | – |\n",
		"| **all** | 3.000 | 0.500 | 6.00 |\n",
		"tar: 2.00 GiB, stored as 1.00; 6.00 s of processors and 4.00 s of wall each of 2 times.",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the table has no\n%s\nbut is\n%s", want, got)
		}
	}
}
