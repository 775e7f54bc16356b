package archive

import (
	"os"
	"testing"

	"vitrine/repo/repotest"
)

// benchSource is a tree of many small files; set VITRINE_BENCH_SOURCE for another one.
func benchSource() string {
	if dir := os.Getenv("VITRINE_BENCH_SOURCE"); dir != "" {
		return dir
	}
	return "../.."
}

func BenchmarkFirst(b *testing.B) {
	for b.Loop() {
		r, _ := repotest.New(b, 2)
		res, err := Run(b.Context(), r, Options{Targets: []string{benchSource()}, NoScan: true})
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(res.Summary.TotalBytesProcessed))
	}
}

func BenchmarkUnchanged(b *testing.B) {
	r, _ := repotest.New(b, 2)
	o := Options{Targets: []string{benchSource()}, NoScan: true}
	if _, err := Run(b.Context(), r, o); err != nil {
		b.Fatal(err)
	}
	if err := r.RefreshIndex(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		res, err := Run(b.Context(), r, o)
		if err != nil {
			b.Fatal(err)
		}
		if res.Summary.FilesNew+res.Summary.FilesChanged > 0 {
			b.Fatalf("files were read again: %+v", res.Summary)
		}
		b.ReportMetric(float64(res.Summary.TotalFilesProcessed), "files")
	}
}
