package rclone

import (
	"testing"
	"time"
)

// SetWordsTime sets, until the test ends, how long the reason of an error may take longer than the error.
func SetWordsTime(t *testing.T, d time.Duration) {
	before := wordsTime
	t.Cleanup(func() { wordsTime = before })
	wordsTime = d
}
