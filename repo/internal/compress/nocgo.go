//go:build !cgo

package compress

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

var zstdLevels = [...]zstd.EncoderLevel{
	Auto:    zstd.SpeedDefault,
	Fastest: zstd.SpeedFastest,
	Better:  zstd.SpeedBetterCompression,
	Max:     zstd.SpeedBestCompression,
}

type encoder struct{ zstd *zstd.Encoder }

func newEncoder(level Level) *encoder {
	e, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstdLevels[level]),
		zstd.WithEncoderCRC(false),
		zstd.WithZeroFrames(true),    // also nothing is a frame
		zstd.WithSingleSegment(true), // also the shortest frames tell their size
		zstd.WithWindowSize(1<<20),
	)
	if err != nil {
		panic(fmt.Sprintf("compress: level %v: %v", level, err)) // the options are constants
	}
	return &encoder{zstd: e}
}

func newTrial() *encoder { return newEncoder(Fastest) }

// appendFrame appends to dst, which has BoundBytes(len(src)) of spare capacity.
func (e *encoder) appendFrame(dst, src []byte) []byte { return e.zstd.EncodeAll(src, dst) }

// decoder takes as many calls at a time as there are processors; more wait.
var decoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(0),
		zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxWindow(2<<30),
	)
	if err != nil {
		panic(fmt.Sprintf("compress: %v", err)) // the options are constants
	}
	return d
})

// decodeInto decodes the frame src, which parseFrame accepted, to dst and returns its length. It
// is an error if dst is too short.
func decodeInto(dst, src []byte) (int, error) {
	out, err := decoder().DecodeAll(src, dst[:0:len(dst)])
	if err != nil {
		return 0, err
	}
	if len(out) > len(dst) {
		return 0, errTooLong
	}
	if len(out) > 0 && &out[0] != &dst[0] {
		copy(dst, out) // the decoder wanted more room while it worked
	}
	return len(out), nil
}

// newStream decodes the frame src, which parseFrame accepted. As libzstd does, it refuses windows above
// 128 MiB.
func newStream(src []byte) (io.ReadCloser, error) {
	d, err := zstd.NewReader(bytes.NewReader(src),
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxWindow(128<<20),
	)
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}
