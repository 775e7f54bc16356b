package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"vitrine/scripts/internal/forge"
)

// noise is a source of bytes that no compressor can make smaller; another seed gives others.
func noise(seed string) io.Reader { return rand.NewChaCha8(sha256.Sum256([]byte(seed))) }

// writeNoise makes a file of noise.
func writeNoise(path string, sizeBytes int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, noise(path), sizeBytes)
	return errors.Join(err, f.Close())
}

// writeSmallFiles makes so many files of noise in directories of a hundred. Their sizes are
// spread evenly over the powers of two from 1 to 64 KiB, 15 KiB on average.
func writeSmallFiles(dir string, count int) (sizeBytes int64, err error) {
	random := rand.New(rand.NewPCG(1, 2))
	var path string
	for i := range count {
		if i%100 == 0 {
			path = fmt.Sprintf("%s/%03d", dir, i/100)
			if err := os.MkdirAll(path, 0o755); err != nil {
				return 0, err
			}
		}
		size := int64(1024) << random.IntN(6)
		size += random.Int64N(size)
		if err := writeNoise(fmt.Sprintf("%s/%02d", path, i%100), size); err != nil {
			return 0, err
		}
		sizeBytes += size
	}
	return sizeBytes, nil
}

// writeKiB makes files of a KiB of noise in directories of perDir until there are so many. The first ones are there
// already, and the others differ from them.
func writeKiB(dir string, first, count, perDir int) error {
	var path string
	content := make([]byte, 1<<10)
	source := noise(fmt.Sprint("small", first))
	for i := first; i < count; i++ {
		if i == first || i%perDir == 0 {
			path = fmt.Sprintf("%s/d%06d", dir, i/perDir)
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
		}
		if _, err := io.ReadFull(source, content); err != nil {
			return err
		}
		if err := os.WriteFile(fmt.Sprintf("%s/f%03d", path, i%perDir), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// writeEmptyFiles makes so many empty files in directories of perDir.
func writeEmptyFiles(dir string, count, perDir int) error {
	var path string
	for i := range count {
		if i%perDir == 0 {
			path = fmt.Sprintf("%s/d%06d", dir, i/perDir)
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(fmt.Sprintf("%s/file-%07d", path, i), nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// repeatSnapshot stores copies of the only snapshot of a repository that differ in their time:
// other IDs, the same tree.
func repeatSnapshot(repo string, key forge.Key, plain []byte, copies int) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(plain, &fields); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	first := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range copies {
		at, err := json.Marshal(first.Add(time.Duration(i) * time.Hour))
		if err != nil {
			return err
		}
		fields["time"] = at
		text, err := json.Marshal(fields)
		if err != nil {
			return err
		}
		sealed, err := key.Seal(text)
		if err != nil {
			return err
		}
		if err := forge.Store(repo, "snapshots", sealed); err != nil {
			return err
		}
	}
	return nil
}

// snapshotIDs lists what is in the repository's directory of snapshots, with the time of each file.
func snapshotIDs(repo string) (map[string]time.Time, error) {
	entries, err := os.ReadDir(filepath.Join(repo, "snapshots"))
	if err != nil {
		return nil, err
	}
	ids := map[string]time.Time{}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && !strings.Contains(e.Name(), ".") {
			ids[e.Name()] = info.ModTime()
		}
	}
	return ids, nil
}
