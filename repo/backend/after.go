package backend

import "context"

type afterKey struct{}

// WithAfter returns a context with which List may leave out the names up to and with this one, because a listing that failed has told
// of them. A store does so if it lists in the order of names and need not begin anew; others list all.
func WithAfter(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, afterKey{}, name)
}

// After returns the name behind which a listing may begin; "" is the whole list.
func After(ctx context.Context) string {
	name, _ := ctx.Value(afterKey{}).(string)
	return name
}
