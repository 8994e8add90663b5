// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/wire"
)

func TestWhatAnAnswerMeans(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		code   string
		want   error
		again  bool
	}{
		"asked to slow down":                     {503, "SlowDown", ErrUnavailable, true},
		"asked to slow down without a code":      {429, "", ErrUnavailable, true},
		"an error of the server":                 {500, "InternalError", ErrUnavailable, true},
		"a gateway without a store":              {502, "", ErrUnavailable, true},
		"a body that came too slowly":            {400, "RequestTimeout", ErrUnavailable, true},
		"two writes at once":                     {409, "ConditionalRequestConflict", ErrUnavailable, true},
		"too many requests of a project":         {403, "rateLimitExceeded", ErrUnavailable, true},
		"a failure told with status 200":         {200, "InternalError", ErrUnavailable, true},
		"a wrong secret":                         {403, "SignatureDoesNotMatch", ErrDenied, false},
		"forbidden without a code":               {403, "", ErrDenied, false},
		"no object":                              {404, "NoSuchKey", ErrNotFound, false},
		"no object without a code":               {404, "", ErrNotFound, false},
		"no bucket":                              {404, "NoSuchBucket", ErrNoBucket, false},
		"something else is not there":            {404, "NoSuchTenant", ErrInvalid, false},
		"a condition that does not hold":         {412, "PreconditionFailed", ErrExists, false},
		"an object of Azure that exists":         {409, "BlobAlreadyExists", ErrExists, false},
		"a full store":                           {507, "", ErrFull, false},
		"a quota":                                {403, "QuotaExceeded", ErrFull, false},
		"another region":                         {301, "PermanentRedirect", ErrInvalid, false},
		"a request that the store does not know": {501, "NotImplemented", ErrInvalid, false},
		"a malformed request":                    {400, "MalformedXML", ErrInvalid, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := answered(test.status, test.code, "some\nwords")
			if !errors.Is(err, test.want) || mayHelp(err) != test.again {
				t.Errorf("got %v (again: %v), want %v", err, mayHelp(err), test.want)
			}
			if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), fmt.Sprint(test.status)) {
				t.Errorf("the text is %q", err)
			}
		})
	}
}

func TestTheAddressOfARequestIsNotTold(t *testing.T) {
	err := unanswered(&url.Error{Op: "Put", URL: "https://host/upload?upload_id=capability", Err: errors.New("connection reset")})
	if strings.Contains(err.Error(), "capability") || !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestWhatOthersSaidIsShort(t *testing.T) {
	if got := oneLine(strings.Repeat("ä\n", 1000)); len(got) > maxText+len("…") || strings.Contains(got, "\n") {
		t.Errorf("got %d bytes: %q", len(got), got)
	}
}

func TestALargeObjectHasNotTooManyParts(t *testing.T) {
	total := int64(0)
	for n := range maxParts {
		length := partLength(8*mib, n)
		if length%partUnit != 0 || length > maxPartBytes || (n > 0 && length < partLength(8*mib, n-1)) {
			t.Fatalf("part %d has %d bytes", n, length)
		}
		total += int64(length)
	}
	if total < 390<<30 || partLength(8*mib, equalParts-1) != 8*mib {
		t.Errorf("an object may have %d GiB", total>>30)
	}
}

func TestARequestIsTriedAnewWithPauses(t *testing.T) {
	again, final := &failure{kind: ErrUnavailable, again: true}, &failure{kind: ErrDenied}
	for name, test := range map[string]struct {
		results  []error
		want     error
		attempts int
		longest  time.Duration
	}{
		"success":                 {[]error{nil}, nil, 1, 0},
		"success in the end":      {[]error{again, again, nil}, nil, 3, 600 * time.Millisecond},
		"refused for good":        {[]error{again, final}, ErrDenied, 2, 200 * time.Millisecond},
		"an error of the caller":  {[]error{context.DeadlineExceeded}, context.DeadlineExceeded, 1, 0},
		"unavailable all the way": {[]error{again, again, again, again, again, again, again, again}, ErrUnavailable, 8, 23 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &Bucket{options: Options{}.bounded()}
				began, n := time.Now(), 0
				err := b.try(t.Context(), 0, func(context.Context) error {
					n++
					return test.results[n-1]
				})
				if !errors.Is(err, test.want) || n != test.attempts {
					t.Errorf("%d attempts ended with %v", n, err)
				}
				if took := time.Since(began); took > test.longest || took < test.longest/2 {
					t.Errorf("it took %v, at most %v is right", took, test.longest)
				}
			})
		})
	}
}

func TestARequestThatHangsEndsAndIsTriedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &Bucket{options: Options{RequestTimeout: time.Second, Attempts: 2}.bounded()}
		err := b.try(t.Context(), 0, func(ctx context.Context) error {
			<-ctx.Done()
			return unanswered(ctx.Err())
		})
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := errors.New("stop")
		cancel(stop)
		if err := b.try(ctx, 0, func(ctx context.Context) error { return unanswered(ctx.Err()) }); !errors.Is(err, stop) {
			t.Errorf("got %v, want the cause of the end", err)
		}
	})
}

func TestOptionsAreBroughtIntoTheirRange(t *testing.T) {
	for name, test := range map[string]struct{ given, want Options }{
		"none":      {Options{}, Options{PartBytes: 8 * mib, Concurrency: 2, Attempts: 8, RequestTimeout: time.Minute}},
		"too small": {Options{1, -1, -1, 1}, Options{PartBytes: 5 * mib, Concurrency: 1, Attempts: 1, RequestTimeout: time.Second}},
		"too large": {Options{1 << 40, 99, 99, time.Hour}, Options{PartBytes: 64 * mib, Concurrency: 16, Attempts: 20, RequestTimeout: 10 * time.Minute}},
		"uneven":    {Options{PartBytes: 6*mib + 1}, Options{PartBytes: 6 * mib, Concurrency: 2, Attempts: 8, RequestTimeout: time.Minute}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.given.bounded(); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestAStoreInMemoryIsTheSameForItsName(t *testing.T) {
	open := func(name string) *Bucket {
		b, err := Open(t.Context(), wire.Store{Provider: wire.ProviderMemory, Bucket: name})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if err := open(t.Name()).WriteNew(t.Context(), "key", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t.Name()).ReadAll(t.Context(), "key", 1); err != nil {
		t.Error(err)
	}
	if _, err := open("another").ReadAll(t.Context(), "key", 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}
