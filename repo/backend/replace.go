package backend

import "context"

type replaceKey struct{}

// WithReplace returns a context with which Save may replace the config that is there, instead of refusing: in one step where
// the store has one, so that at any time a reader, and a crash, finds the old bytes or the new ones. A store that cannot
// replace refuses as ever.
func WithReplace(ctx context.Context) context.Context {
	return context.WithValue(ctx, replaceKey{}, true)
}

// Replaces reports whether a Save may replace the file: the config only in a context of WithReplace.
func Replaces(ctx context.Context, f File) bool {
	return f.Kind != Config || ctx.Value(replaceKey{}) != nil
}
