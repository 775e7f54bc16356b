package fs

import "runtime"

// spare are the processors for what nobody waits for yet: all but one, which is left to those that answer
// and to their clients. Without that a client waits for milliseconds until a decoder's turn is over.
type spare chan struct{}

func newSpare() spare { return make(spare, max(1, runtime.NumCPU()-1)) }

func (s spare) take() { s <- struct{}{} }
func (s spare) put()  { <-s }
