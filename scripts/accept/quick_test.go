package accept

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"vitrine/scripts/internal/forge"
)

// quicken gives the repository a key that opens at once, for tests that start the program
// hundreds of times. It returns the master key.
func (l *lab) quicken() forge.Key {
	l.t.Helper()
	var master forge.Key
	if err := json.Unmarshal([]byte(l.vitrine("cat", "masterkey")), &master); err != nil {
		l.t.Fatal(err)
	}
	password, err := os.ReadFile(l.password)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := forge.QuickKey(l.repo, master, []byte(strings.TrimSpace(string(password)))); err != nil {
		l.t.Fatal(err)
	}
	return master
}

// seal forges the stored form of a file.
func (l *lab) seal(master forge.Key, plain string) []byte {
	l.t.Helper()
	sealed, err := master.Seal([]byte(plain))
	if err != nil {
		l.t.Fatal(err)
	}
	return sealed
}

// store puts a file into the repository under the name its content has.
func (l *lab) store(dir string, content []byte) {
	l.t.Helper()
	if err := forge.Store(l.repo, dir, content); err != nil {
		l.t.Fatal(err)
	}
}

// files lists the files of one kind: "keys", "data", "config", …
func (l *lab) files(kind string) []string {
	l.t.Helper()
	var found []string
	err := filepath.WalkDir(filepath.Join(l.repo, kind), func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			found = append(found, p)
		}
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return found
}
