package accept

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"

	"golang.org/x/crypto/poly1305" //lint:ignore SA1019 the format fixes Poly1305-AES
	"golang.org/x/crypto/scrypt"
)

// sealingKey is the format's key, implemented here a second time so that tests can forge
// files without the code under test.
type sealingKey struct {
	MAC struct {
		K []byte `json:"k"`
		R []byte `json:"r"`
	} `json:"mac"`
	Encrypt []byte `json:"encrypt"`
}

// seal returns IV || AES-256-CTR(plain) || Poly1305-AES.
func (k sealingKey) seal(plain []byte) []byte {
	out := make([]byte, 16+len(plain)+16)
	rand.Read(out[:16])
	body, err := aes.NewCipher(k.Encrypt)
	if err != nil {
		panic(err)
	}
	cipher.NewCTR(body, out[:16]).XORKeyStream(out[16:16+len(plain)], plain)
	mac, err := aes.NewCipher(k.MAC.K)
	if err != nil {
		panic(err)
	}
	var oneTime [32]byte
	copy(oneTime[:16], k.MAC.R)
	mac.Encrypt(oneTime[16:], out[:16])
	var tag [16]byte
	poly1305.Sum(&tag, out[16:16+len(plain)], &oneTime)
	copy(out[16+len(plain):], tag[:])
	return out
}

// quicken replaces the repository's key file by one whose derivation takes a millisecond
// instead of half a second, for tests that start the program hundreds of times. It returns
// the master key.
func (l *lab) quicken() sealingKey {
	l.t.Helper()
	var master sealingKey
	plain := []byte(l.vitrine("cat", "masterkey"))
	if err := json.Unmarshal(plain, &master); err != nil {
		l.t.Fatal(err)
	}
	password, err := os.ReadFile(l.password)
	if err != nil {
		l.t.Fatal(err)
	}
	salt := make([]byte, 64)
	rand.Read(salt)
	const n, r, p = 1024, 8, 1
	derived, err := scrypt.Key(password[:len(password)-1], salt, n, r, p, 64)
	if err != nil {
		l.t.Fatal(err)
	}
	var user sealingKey
	user.Encrypt, user.MAC.K, user.MAC.R = derived[:32], derived[32:48], derived[48:]
	compact, err := json.Marshal(master)
	if err != nil {
		l.t.Fatal(err)
	}
	file, err := json.Marshal(map[string]any{
		"created": "2024-02-29T12:00:00.000000001Z", "username": "test", "hostname": "test",
		"kdf": "scrypt", "N": n, "r": r, "p": p, "salt": salt, "data": user.seal(compact),
	})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, old := range l.files("keys") {
		if err := os.Remove(old); err != nil {
			l.t.Fatal(err)
		}
	}
	l.store("keys", file)
	return master
}

// store puts a file into the repository under the name its content has.
func (l *lab) store(kind string, content []byte) {
	l.t.Helper()
	id := sha256.Sum256(content)
	write(l.t, filepath.Join(l.repo, kind, hex.EncodeToString(id[:])), string(content))
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
