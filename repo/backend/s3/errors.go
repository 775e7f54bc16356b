package s3

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"github.com/minio/minio-go/v7"

	"vitrine/repo/backend"
)

// maxMessageBytes is how much of a server's words goes into an error: some send a web page.
const maxMessageBytes = 300

// reworded is err in words for people.
type reworded struct {
	text string
	err  error
}

func (e *reworded) Error() string { return e.text }
func (e *reworded) Unwrap() error { return e.err }

// reword is err in words for people that also is of a class of package backend, unless class is nil.
func reword(class error, text string, err error) error {
	err = &reworded{text, err}
	if class == nil {
		return err
	}
	return backend.Classed(class, err)
}

// answer is what an error code of a server means.
type answer struct {
	class error  // nil: it may pass, try again
	hint  string // the next step for a person
}

// ErrNoBucket is the class of errors for a bucket that does not exist, besides backend.ErrNotExist.
var ErrNoBucket = backend.Classed(backend.ErrNotExist, errors.New("there is no such bucket"))

const checkKeys = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"

// answers are the codes that mean more than their status. What is not here goes by the status.
var answers = map[string]answer{
	minio.NoSuchKey:    {class: backend.ErrNotExist},
	minio.NoSuchBucket: {class: ErrNoBucket, hint: "check the name of the bucket; `vitrine init` makes it"},
	"InvalidRange":     {class: backend.ErrShort},

	minio.AccessDenied:                 {class: backend.ErrDenied, hint: "check the keys; they need the permissions to list, get, put and delete objects in this bucket"},
	"AllAccessDisabled":                {class: backend.ErrDenied},
	"AccountProblem":                   {class: backend.ErrDenied},
	"InvalidAccessKeyId":               {class: backend.ErrDenied, hint: checkKeys},
	"SignatureDoesNotMatch":            {class: backend.ErrDenied, hint: checkKeys},
	"InvalidToken":                     {class: backend.ErrDenied, hint: checkKeys},
	"ExpiredToken":                     {class: backend.ErrDenied, hint: "get new credentials, the session token is too old"},
	"RequestTimeTooSkewed":             {class: backend.ErrDenied, hint: "set the clock of this machine"},
	minio.AuthorizationHeaderMalformed: {class: backend.ErrDenied, hint: "name the region of the bucket with -o s3.region"},
	"PermanentRedirect":                {class: backend.ErrDenied, hint: "name the region of the bucket with -o s3.region, or its own host in the location"},
	"InvalidObjectState":               {class: backend.ErrDenied, hint: "the object is in an archive class: restore it with the tools of the store first"},
	"BucketAlreadyExists":              {class: backend.ErrDenied, hint: "somebody else has a bucket of this name: choose another one"},
	"QuotaExceeded":                    {class: backend.ErrFull},
	"XMinioAdminBucketQuotaExceeded":   {class: backend.ErrFull, hint: "nothing is damaged: raise the quota of the bucket, or prune"},
	"XMinioStorageFull":                {class: backend.ErrFull, hint: "nothing is damaged: make room on the server and run it again"},

	// The status of these says that they stay, and they do not.
	"RequestTimeout":             {},
	"ConditionalRequestConflict": {},
	"OperationAborted":           {},
	"BadDigest":                  {hint: "what arrived is not what was sent: the network or the memory of a machine changes bytes"},
	"IncompleteBody":             {},
	"XAmzContentSHA256Mismatch":  {hint: "what arrived is not what was sent: the network or the memory of a machine changes bytes"},
}

// explain gives an error of the client library its class, and words with a next step. Other errors
// (of the network, of the context, of ours) are returned as they are.
func explain(err error) error {
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) {
		return backend.Classed(backend.ErrUntrusted, err)
	}
	var resp minio.ErrorResponse
	if !errors.As(err, &resp) {
		var outer *url.Error // repeats method and URL, which is often that of the client's own question for the region
		if errors.As(err, &outer) {
			return outer.Err
		}
		return err
	}
	if doubtful(resp) {
		return reword(backend.ErrNoServer, "the server answers 404, but not as an S3 server does: a proxy before it cannot reach it, or the location is not that of one", err)
	}
	a, known := answers[resp.Code]
	if !known {
		a.class = classOfStatus(resp.StatusCode)
	}
	return reword(a.class, words(resp, a.hint), err)
}

// doubtful tells whether a 404 shows no sign of an S3 server, neither its document nor the ID of the request. A proxy or
// load balancer answers so while it has nobody behind it, and the client library takes that for a missing object or bucket.
func doubtful(resp minio.ErrorResponse) bool {
	return resp.StatusCode == http.StatusNotFound && resp.XMLName.Local == "" && resp.RequestID == ""
}

// explain is the function of that name, with what only the backend knows: when nobody named a
// region, an answer that names one has taught it to the client, and the next attempt is right.
func (b *Backend) explain(err error) error {
	var resp minio.ErrorResponse
	if b.cfg.region() == "" && errors.As(err, &resp) && resp.Region != "" &&
		(resp.Code == minio.AuthorizationHeaderMalformed || resp.Code == minio.InvalidRegion) {
		return reword(nil, words(resp, ""), err)
	}
	return explain(err)
}

// classOfStatus judges an answer by its status alone.
func classOfStatus(status int) error {
	switch {
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status == 499: // nginx: the client went away
		return nil
	case status == http.StatusNotFound:
		return backend.ErrNotExist
	case status == http.StatusRequestedRangeNotSatisfiable:
		return backend.ErrShort
	case status == http.StatusInsufficientStorage:
		return backend.ErrFull
	case status == http.StatusNotImplemented, status >= 300 && status < 500:
		return backend.ErrDenied
	}
	return nil // the server's trouble, or none that has a status
}

// words returns "Code: what the server says [request id] (hint)" on one line.
func words(resp minio.ErrorResponse, hint string) string {
	text := strings.Join(strings.FieldsFunc(strings.ToValidUTF8(resp.Error(), "?"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
	if len(text) > maxMessageBytes {
		text = strings.ToValidUTF8(text[:maxMessageBytes], "") + "…"
	}
	if resp.Code != "" && resp.Code != text {
		text = resp.Code + ": " + text
	}
	if resp.RequestID != "" && resp.Code != minio.NoSuchKey {
		text += fmt.Sprintf(" [request %.64s]", resp.RequestID)
	}
	if hint != "" {
		text += " (" + hint + ")"
	}
	return text
}
