package backend

import (
	"io"
	"testing"
)

// TestUploadAgain: of a file that is sent again, as the library of S3 does with s3.retries, the last sending counts. The
// reader of the first may still be at work; the race detector decides.
func TestUploadAgain(t *testing.T) {
	for name, again := range map[string]func(u *Upload, body io.ReadSeekCloser) io.Reader{
		"seek": func(_ *Upload, body io.ReadSeekCloser) io.Reader {
			if _, err := body.Seek(0, io.SeekStart); err != nil {
				t.Error(err)
			}
			return body
		},
		"another body": func(u *Upload, _ io.ReadSeekCloser) io.Reader { return u.Body() },
	} {
		u := NewUpload(make([]byte, 1000))
		body := u.Body()
		if n, err := io.Copy(io.Discard, body); err != nil || n != 1000 {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		if at, err := body.Seek(0, io.SeekCurrent); err != nil || at != 1000 {
			t.Errorf("%s: at %d, %v", name, at, err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			body.Read(make([]byte, 10))
		}()
		second := again(u, body)
		<-done
		if err := u.End(nil); err == nil {
			t.Errorf("%s: what was read before counts as sent again", name)
		}
		if _, err := second.Read(make([]byte, 10)); err == nil {
			t.Errorf("%s: it is read after the end", name)
		}
	}
	u := NewUpload(nil)
	u.Body().Seek(0, io.SeekStart)
	if err := u.End(nil); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}
