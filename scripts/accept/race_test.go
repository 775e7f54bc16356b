//go:build race

package accept

const raceDetector = true
