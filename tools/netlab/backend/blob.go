package backend

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math/rand/v2"
)

// Blob returns a reader of bytes that depend on seed only. A shorter blob is the beginning of a
// longer one.
func Blob(bytes int64, seed uint64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return io.LimitReader(rand.NewChaCha8(key), bytes)
}

// BlobSum returns the SHA-256 of a blob, in hex.
func BlobSum(bytes int64, seed uint64) string {
	sum := sha256.New()
	_, _ = io.Copy(sum, Blob(bytes, seed)) // neither of them fails
	return hex.EncodeToString(sum.Sum(nil))
}
