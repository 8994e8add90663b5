// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What errors of this package are, by errors.Is.
var (
	// ErrNotFound: there is no such object.
	ErrNotFound = errors.New("not found")
	// ErrNoBucket: there is no such bucket, container or directory. It is not ErrNotFound, so that nobody takes a store that
	// is not there for one that is empty.
	ErrNoBucket = errors.New("no such bucket")
	// ErrExists: WriteNew found an object.
	ErrExists = errors.New("exists already")
	// ErrDenied: the store refused the credentials, or what they were used for.
	ErrDenied = errors.New("access denied")
	// ErrUnavailable: the store did not answer, asked to slow down or failed, and did so again when asked anew. The same
	// may succeed later.
	ErrUnavailable = errors.New("store unavailable")
	// ErrFull: there is no space left in the store.
	ErrFull = errors.New("store full")
	// ErrInvalid: the store is described wrongly, cannot do what is needed of it, or a key is none.
	ErrInvalid = errors.New("invalid")
	// ErrTooLarge: ReadAll found more than its limit.
	ErrTooLarge = errors.New("too large")
)

// failure is the error of a backend. It keeps no cause: those of the clients may quote headers and addresses.
type failure struct {
	kind error
	// text for people, one line.
	text string
	// again: the same request may succeed now.
	again bool
}

func (f *failure) Error() string {
	if f.text == "" {
		return f.kind.Error()
	}
	return f.kind.Error() + ": " + f.text
}

func (f *failure) Unwrap() error { return f.kind }

func invalid(format string, args ...any) error {
	return &failure{kind: ErrInvalid, text: fmt.Sprintf(format, args...)}
}

// explain says what was done to which object of which store when err happened; nil stays nil.
func (b *Bucket) explain(doing, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %q in %s: %w", doing, key, b, err)
}

// codes of the providers' protocols whose meaning their status does not tell.
var codes = map[string]failure{
	"NoSuchKey": {kind: ErrNotFound}, "BlobNotFound": {kind: ErrNotFound}, "NotFound": {kind: ErrNotFound},
	"notFound":     {kind: ErrNotFound},
	"NoSuchBucket": {kind: ErrNoBucket}, "ContainerNotFound": {kind: ErrNoBucket},
	"ContainerBeingDeleted": {kind: ErrNoBucket}, "ResourceNotFound": {kind: ErrNoBucket},
	"PreconditionFailed": {kind: ErrExists}, "BlobAlreadyExists": {kind: ErrExists}, "ConditionNotMet": {kind: ErrExists},
	"UnauthorizedBlobOverwrite": {kind: ErrExists},
	"QuotaExceeded":             {kind: ErrFull}, "XMinioStorageFull": {kind: ErrFull}, "XMinioAdminBucketQuotaExceeded": {kind: ErrFull},
	"SlowDown": {kind: ErrUnavailable, again: true}, "RequestTimeout": {kind: ErrUnavailable, again: true},
	"Throttling": {kind: ErrUnavailable, again: true}, "ThrottlingException": {kind: ErrUnavailable, again: true},
	"RequestLimitExceeded": {kind: ErrUnavailable, again: true}, "TooManyRequests": {kind: ErrUnavailable, again: true},
	"InternalError": {kind: ErrUnavailable, again: true}, "ServiceUnavailable": {kind: ErrUnavailable, again: true},
	"OperationAborted": {kind: ErrUnavailable, again: true}, "ConditionalRequestConflict": {kind: ErrUnavailable, again: true},
	"rateLimitExceeded": {kind: ErrUnavailable, again: true}, "userRateLimitExceeded": {kind: ErrUnavailable, again: true},
	"AccessDenied": {kind: ErrDenied}, "InvalidAccessKeyId": {kind: ErrDenied}, "SignatureDoesNotMatch": {kind: ErrDenied},
	"ExpiredToken": {kind: ErrDenied}, "InvalidToken": {kind: ErrDenied}, "AuthenticationFailed": {kind: ErrDenied},
	"BlobImmutableDueToPolicy": {kind: ErrDenied}, "XAdminUserNotFound": {kind: ErrDenied},
	"PermanentRedirect": {kind: ErrInvalid, text: "the bucket is in another region"},
}

// answered is the failure of a request that was answered with a status that is none of success; code and message are
// those of the provider, which may be empty.
func answered(status int, code, message string) error {
	f, known := codes[code]
	if !known {
		f = ofStatus(status)
	}
	if !known && code != "" && errors.Is(f.kind, ErrNotFound) {
		// Something is not found, but who knows what: it must not be taken for an object that is not there.
		f.kind = ErrInvalid
	}
	said := strings.Trim(code+": "+message, ": ")
	if said == "" {
		said = http.StatusText(status)
	}
	f.text = strings.Trim(f.text+": "+fmt.Sprintf("the store answered %d (%s)", status, oneLine(said)), ": ")
	return &f
}

func ofStatus(status int) failure {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusProxyAuthRequired:
		return failure{kind: ErrDenied}
	case status == http.StatusNotFound:
		return failure{kind: ErrNotFound}
	case status == http.StatusPreconditionFailed:
		return failure{kind: ErrExists}
	case status == http.StatusInsufficientStorage:
		return failure{kind: ErrFull}
	case status == http.StatusNotImplemented:
		return failure{kind: ErrInvalid}
	case status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status >= http.StatusInternalServerError:
		return failure{kind: ErrUnavailable, again: true}
	default:
		return failure{kind: ErrInvalid}
	}
}

// unanswered is the failure of a request without an answer, or whose answer broke off.
func unanswered(err error) error {
	var known *failure
	if errors.As(err, &known) {
		return known
	}
	var address *url.Error
	if errors.As(err, &address) {
		// The address of an upload is a capability: only what happened is told.
		err = address.Err
	}
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var verification *tls.CertificateVerificationError
	if errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &verification) {
		return &failure{kind: ErrInvalid, text: "the store's certificate is not trusted: " + oneLine(err.Error()) + "; ca.crt of its credentials can name its CA"}
	}
	text := err.Error()
	if errors.Is(err, context.DeadlineExceeded) {
		text = "the store did not answer in time"
	}
	return &failure{kind: ErrUnavailable, text: oneLine(text), again: true}
}

// maxText bounds what a store says in an error.
const maxText = 300

// oneLine makes what somebody else wrote fit for an error.
func oneLine(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if len(text) <= maxText {
		return text
	}
	cut := maxText
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
