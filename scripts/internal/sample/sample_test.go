package sample

import (
	"fmt"
	"testing"
)

func TestChoose(t *testing.T) {
	var all []entry
	for i := range 10_000 {
		size := int64(i%1000) * 10
		if i%20 == 0 {
			size = 1 << 20
		}
		all = append(all, entry{fmt.Sprint(i), size, true}, entry{fmt.Sprint("link-", i), 10, false})
	}
	chosen, err := choose(all, 2000, 100<<20)
	if err != nil {
		t.Fatal(err)
	}
	var files int
	var size int64
	for _, path := range chosen {
		var i int
		if _, err := fmt.Sscan(path, &i); err == nil {
			files++
			size += all[2*i].sizeBytes
		}
	}
	if files < 1900 || files > 2100 || size < 99<<20 || size > 100<<20 {
		t.Errorf("chose %d files and %d bytes, want about 2000 and %d", files, size, 100<<20)
	}
	for _, c := range []struct {
		files int
		bytes int64
	}{{20_000, 1 << 20}, {100, 1 << 40}} {
		if _, err := choose(all, c.files, c.bytes); err == nil {
			t.Errorf("choose finds %d files and %d bytes where there are not so many", c.files, c.bytes)
		}
	}
}
