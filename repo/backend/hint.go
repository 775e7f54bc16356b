package backend

import "context"

// Hint tells wrappers what the bytes of a call are, which the names of files do not say. A
// hint never changes what a call returns.
type Hint uint8

// The hints.
const (
	NoHint   Hint = iota
	HintTree      // the pack holds trees: who reads one soon reads most of the others
)

type hintKey struct{}

// WithHint returns a context for calls of a Backend whose bytes are of that sort.
func WithHint(ctx context.Context, h Hint) context.Context {
	return context.WithValue(ctx, hintKey{}, h)
}

// HintOf returns the hint that the context carries.
func HintOf(ctx context.Context) Hint {
	h, _ := ctx.Value(hintKey{}).(Hint)
	return h
}
