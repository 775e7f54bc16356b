package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"vitrine/repo/backend"
)

// List implements backend.Backend. It calls fn when the whole list has come, so that no connection
// waits for a slow fn; the list takes about 100 bytes of memory for each file.
func (b *Backend) List(ctx context.Context, kind backend.Kind, fn func(backend.Info) error) error {
	files, err := b.list(ctx, kind)
	if err != nil {
		return fmt.Errorf("list %v: %w", kind, err)
	}
	for _, info := range files {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("list %v: %w", kind, err)
		}
		if err := fn(info); err != nil {
			return err
		}
	}
	return nil
}

func (b *Backend) list(ctx context.Context, kind backend.Kind) ([]backend.Info, error) {
	if kind == backend.Config {
		size, err := b.size(ctx, backend.File{Kind: kind})
		if errors.Is(err, backend.ErrNotExist) {
			return nil, nil
		}
		return []backend.Info{{SizeBytes: size}}, err
	}
	var files []backend.Info
	sized := true
	err := b.do(ctx, call{method: http.MethodGet, path: kind.Dir() + "/"}, func(resp *http.Response) (err error) {
		files, sized, err = decodeList(json.NewDecoder(resp.Body), kind)
		return err
	})
	if errors.Is(err, backend.ErrNotExist) { // a directory comes into being with its first file
		return nil, b.stillThere(ctx)
	}
	if err == nil && !sized {
		files, err = b.addSizes(ctx, kind, files)
	}
	if err != nil {
		return nil, err
	}
	// Some stores behind rclone can hold a name twice.
	slices.SortFunc(files, func(a, b backend.Info) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(files, func(a, b backend.Info) bool { return a.Name == b.Name }), nil
}

// stillThere returns an error when not even the config of an opened repository is there: then the disk of the
// server is, and nothing about the repository can be told.
func (b *Backend) stillThere(ctx context.Context) error {
	if !b.opened {
		return nil
	}
	_, err := b.size(ctx, backend.File{Kind: backend.Config})
	if errors.Is(err, backend.ErrNotExist) {
		return errors.New("the server has neither the directory nor the config: is its disk mounted?")
	}
	return err
}

// entry is an element of a list: a string in version 1, an object in version 2.
type entry struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *entry) UnmarshalJSON(p []byte) error {
	if len(p) > 0 && p[0] == '"' {
		e.Size = -1
		return json.Unmarshal(p, &e.Name)
	}
	type plain entry
	return json.Unmarshal(p, (*plain)(e))
}

// decodeList returns the files of the kind; sized is false when a size is missing.
func decodeList(dec *json.Decoder, kind backend.Kind) (files []backend.Info, sized bool, err error) {
	start, err := dec.Token()
	if err != nil {
		return nil, false, fmt.Errorf("the server's list: %w", err)
	}
	if start == nil { // null: no files
		return nil, true, nil
	}
	if start != json.Delim('[') {
		return nil, false, fmt.Errorf("the server's list begins with %v", start)
	}
	sized = true
	for dec.More() {
		var e entry
		if err := dec.Decode(&e); err != nil {
			return nil, false, fmt.Errorf("the server's list: %w", err)
		}
		if (backend.File{Kind: kind, Name: e.Name}).Check() != nil {
			continue
		}
		sized = sized && e.Size >= 0
		files = append(files, backend.Info{Name: e.Name, SizeBytes: e.Size})
	}
	if _, err := dec.Token(); err != nil {
		return nil, false, fmt.Errorf("the server's list is cut: %w", err)
	}
	return files, sized, nil
}

// addSizes asks for the size of each file; those that are gone meanwhile are left out.
func (b *Backend) addSizes(ctx context.Context, kind backend.Kind, files []backend.Info) ([]backend.Info, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(b.cfg.Connections)
	for i := range files {
		group.Go(func() error {
			size, err := b.size(ctx, backend.File{Kind: kind, Name: files[i].Name})
			if errors.Is(err, backend.ErrNotExist) {
				files[i].Name = ""
				return nil
			}
			files[i].SizeBytes = size
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(files, func(info backend.Info) bool { return info.Name == "" }), nil
}
