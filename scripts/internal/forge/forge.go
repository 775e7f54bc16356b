// Package forge makes files of a repository without the code under test: a second, small
// implementation of the format's sealing and key files. Tests and the bench use it to put
// damaged, future or cheap-to-open files in place.
package forge

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/poly1305" //lint:ignore SA1019 the format fixes Poly1305-AES
	"golang.org/x/crypto/scrypt"
)

// Key is the format's key, in the JSON form that `cat masterkey` prints.
type Key struct {
	MAC struct {
		K []byte `json:"k"` // 16 bytes
		R []byte `json:"r"` // 16 bytes
	} `json:"mac"`
	Encrypt []byte `json:"encrypt"` // 32 bytes
}

// Seal returns IV || AES-256-CTR(plain) || Poly1305-AES.
func (k Key) Seal(plain []byte) ([]byte, error) {
	body, err := aes.NewCipher(k.Encrypt)
	if err != nil {
		return nil, err
	}
	mac, err := aes.NewCipher(k.MAC.K)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 16+len(plain)+16)
	iv, text := out[:16], out[16:16+len(plain)]
	rand.Read(iv)
	cipher.NewCTR(body, iv).XORKeyStream(text, plain)
	var oneTime [32]byte
	copy(oneTime[:16], k.MAC.R)
	mac.Encrypt(oneTime[16:], iv)
	var tag [16]byte
	poly1305.Sum(&tag, text, &oneTime)
	copy(out[16+len(plain):], tag[:])
	return out, nil
}

// QuickKey replaces the key files of a local repository by one whose derivation takes a
// millisecond instead of half a second, for whoever starts programs hundreds of times or
// measures what else they do.
func QuickKey(repository string, master Key, password []byte) error {
	const n, r, p = 1024, 8, 1
	salt := make([]byte, 64)
	rand.Read(salt)
	derived, err := scrypt.Key(password, salt, n, r, p, 64)
	if err != nil {
		return err
	}
	var user Key
	user.Encrypt, user.MAC.K, user.MAC.R = derived[:32], derived[32:48], derived[48:]
	plain, err := json.Marshal(master)
	if err != nil {
		return err
	}
	sealed, err := user.Seal(plain)
	if err != nil {
		return err
	}
	file, err := json.Marshal(map[string]any{
		"created": "2024-02-29T12:00:00.000000001Z", "username": "test", "hostname": "test",
		"kdf": "scrypt", "N": n, "r": r, "p": p, "salt": salt, "data": sealed,
	})
	if err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(repository, "keys", "*"))
	if err != nil {
		return err
	}
	if err := Store(repository, "keys", file); err != nil {
		return err
	}
	for _, name := range old {
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("remove the slow key: %w", err)
		}
	}
	return nil
}

// Store puts content into a directory of the repository under the name it must have.
func Store(repository, dir string, content []byte) error {
	id := sha256.Sum256(content)
	return os.WriteFile(filepath.Join(repository, dir, hex.EncodeToString(id[:])), content, 0o600)
}
