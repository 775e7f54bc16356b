package s3

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/retry"
)

// TestListGoesOn fails every second page of a listing: the next request asks for what comes behind the page before it, by
// either protocol, and every pack is told of once.
func TestListGoesOn(t *testing.T) {
	const packs, pageSize = 20, 10
	var keys []string
	for i := range packs {
		keys = append(keys, backendtest.FileOf(backend.Pack, []byte{byte(i)}).Path())
	}
	slices.Sort(keys)
	for _, v1 := range []bool{false, true} {
		pages, failures := 0, 0
		be := fake(t, func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			after := max(q.Get("marker"), q.Get("start-after"), q.Get("continuation-token"))
			if failures <= pages {
				failures++
				fail(w, http.StatusServiceUnavailable, "SlowDown", "told")
				return
			}
			pages++
			from, found := slices.BinarySearch(keys, after)
			if found {
				from++
			}
			to := min(from+pageSize, packs)
			io.WriteString(w, "<ListBucketResult>")
			for _, key := range keys[from:to] {
				fmt.Fprintf(w, "<Contents><Key>%s</Key><Size>5</Size><LastModified>2026-10-21T07:28:00Z</LastModified></Contents>", key)
			}
			if to < packs {
				fmt.Fprintf(w, "<IsTruncated>true</IsTruncated><NextContinuationToken>%s</NextContinuationToken>", keys[to-1])
			}
			io.WriteString(w, "</ListBucketResult>")
		}).(*Backend)
		be.cfg.ListObjectsV1 = v1
		var got []string
		err := retry.New(be, retry.Options{}).List(t.Context(), backend.Pack, func(info backend.Info) error {
			got = append(got, backend.File{Kind: backend.Pack, Name: info.Name}.Path())
			return nil
		})
		if err != nil || !slices.Equal(got, keys) {
			t.Errorf("version 1 %v: %d packs of %d, %v\n%s", v1, len(got), packs, err, strings.Join(got, "\n"))
		}
		if pages != packs/pageSize {
			t.Errorf("version 1 %v: %d pages were listed, want %d", v1, pages, packs/pageSize)
		}
	}
}
