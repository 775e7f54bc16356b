package wiring

import (
	"context"
	"testing"

	"vitrine/fs"
	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/mem"
)

func TestMeterIsABackend(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backend.Backend {
		return StoreOptions{Meter: new(Meter)}.wrap(t.Context(), mem.New(), localScheme)
	})
}

func TestMeterCounts(t *testing.T) {
	ctx := context.Background()
	m := new(Meter)
	be := StoreOptions{Meter: m}.wrap(t.Context(), mem.New(), localScheme)
	index := backend.File{Kind: backend.Index, Name: "abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789"}
	if err := be.Save(ctx, index, []byte("ten bytes!")); err != nil {
		t.Fatal(err)
	}
	if _, err := be.ReadAll(ctx, index, 100); err != nil {
		t.Fatal(err)
	}
	if err := be.ReadAt(ctx, index, make([]byte, 4), 2); err != nil {
		t.Fatal(err)
	}
	if _, err := be.Stat(ctx, backend.File{Kind: backend.Config}); err == nil {
		t.Fatal("there is a config")
	}
	if err := be.List(ctx, backend.Index, func(backend.Info) error { return nil }); err != nil {
		t.Fatal(err)
	}
	got := m.Traffic()
	if got.Seconds <= 0 {
		t.Error("it took no time")
	}
	got.Seconds = 0
	if want := (fs.Traffic{Requests: 5, BytesRead: 14, Errors: 1, IndexFiles: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestPublicName(t *testing.T) {
	for location, want := range map[string]string{
		"/srv/backup/":                           "/srv/backup",
		"local:/srv/a,b c":                       "/srv/a,b c",
		"rest:https://user:geheim@host:8000/r":   "rest:https://host:8000/r",
		"rest:https://user:ge@heim@host/r%40s":   "rest:https://host/r%40s",
		"s3:https://s3.amazonaws.com/b?key=gehe": "s3:https://s3.amazonaws.com/b",
		"sftp:user@host:/srv":                    "sftp:user@host:/srv",
		"sftp://user:geheim@host//srv":           "sftp://host//srv",
		"rclone:remote:path":                     "rclone:remote:path",
	} {
		if got := PublicName(location); got != want {
			t.Errorf("%s: %q, want %q", location, got, want)
		}
	}
}

// slowSave looks at the meter while a file is being saved.
type slowSave struct {
	backend.Backend
	m    *Meter
	seen int64
}

func (s *slowSave) Save(ctx context.Context, f backend.File, content []byte) error {
	s.seen = s.m.StoringBytes()
	return s.Backend.Save(ctx, f, content)
}

func TestMeterStoring(t *testing.T) {
	m := new(Meter)
	below := &slowSave{Backend: mem.New(), m: m}
	be := StoreOptions{Meter: m}.wrap(t.Context(), below, localScheme)
	if err := be.Save(t.Context(), backend.File{Kind: backend.Config}, []byte("ten bytes!")); err != nil {
		t.Fatal(err)
	}
	if below.seen != 10 || m.StoringBytes() != 0 {
		t.Errorf("%d bytes on their way, and %d afterwards; want 10 and 0", below.seen, m.StoringBytes())
	}
}
