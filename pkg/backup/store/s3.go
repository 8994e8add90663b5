// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"

	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// writeMark is the metadata that tells which write an object of several parts is of.
const writeMark = "moco-write"

// s3Store is a bucket of S3 or of a server that speaks its protocol.
type s3Store struct {
	driven
	name, endpoint string
	client         *s3.Client
}

func openS3(ctx context.Context, s wire.Store, o Options) (backend, error) {
	if s.Bucket == "" {
		return nil, invalid("the store names no bucket")
	}
	id, err := credential(s, keyAccessKeyID)
	if err != nil {
		return nil, err
	}
	secret, err := credential(s, keySecretAccessKey)
	if err != nil {
		return nil, err
	}
	h, err := client(s, o)
	if err != nil {
		return nil, err
	}
	// Options by hand and not by the library's configuration, which would look for credentials in the environment.
	options := s3.Options{
		Region:       cmp.Or(s.Region, "us-east-1"),
		Credentials:  credentials.NewStaticCredentialsProvider(id, secret, strings.TrimSpace(s.Credentials[keySessionToken])),
		HTTPClient:   h,
		Retryer:      aws.NopRetryer{},
		UsePathStyle: s.PathStyle,
		// Bodies are signed, which protects them as well, and which every server understands.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	}
	if s.Endpoint != "" {
		if _, err := checkEndpoint(s.Endpoint); err != nil {
			return nil, err
		}
		options.BaseEndpoint = aws.String(s.Endpoint)
	}
	return newS3(ctx, &s3Store{name: s.Bucket, endpoint: s.Endpoint, client: s3.New(options)}, h)
}

// newS3 puts the driver below a store.
func newS3(ctx context.Context, s *s3Store, h *http.Client) (backend, error) {
	bucket, err := s3blob.OpenBucketV2(ctx, s.client, s.name, &s3blob.Options{
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
	})
	if err != nil {
		return nil, invalid("the bucket of the store does not do for S3")
	}
	s.driven = driven{bucket: bucket, http: h, provider: s}
	return s, nil
}

func (s *s3Store) String() string {
	return fmt.Sprintf("S3 bucket %q at %s", s.name, cmp.Or(s.endpoint, "Amazon"))
}

func (s *s3Store) location(key string) string { return "s3://" + s.name + "/" + key }
func (s *s3Store) parallel(n int) int         { return n }

func (s *s3Store) failed(err error) error { return ofS3(err) }

// ofS3 is the failure of a request to S3; nil stays nil.
func ofS3(err error) error {
	if err == nil {
		return nil
	}
	var code, message string
	var api smithy.APIError
	if errors.As(err, &api) {
		code, message = api.ErrorCode(), api.ErrorMessage()
	}
	var response *awshttp.ResponseError
	if errors.As(err, &response) && response.HTTPStatusCode() != 0 {
		// An answer of success that broke off is none.
		if code != "" || response.HTTPStatusCode() >= http.StatusMultipleChoices {
			return answered(response.HTTPStatusCode(), code, message)
		}
	}
	if code != "" {
		return answered(http.StatusOK, code, message)
	}
	var sending *smithy.OperationError
	if errors.As(err, &sending) {
		err = sending.Err
	}
	return unanswered(err)
}

func (s *s3Store) reading(as asFunc, version string) error {
	var in *s3.GetObjectInput
	if !as(&in) {
		return unprepared()
	}
	if version != "" {
		in.IfMatch = &version
	}
	return nil
}

func (s *s3Store) opened(r *blob.Reader) (size int64, version string) {
	var out s3.GetObjectOutput
	if !r.As(&out) || out.ContentLength == nil {
		return -1, ""
	}
	return r.Size(), aws.ToString(out.ETag)
}

// writing has the library's manager of uploads make one request, however long the object.
func (s *s3Store) writing(as asFunc) error {
	var manager *transfermanager.Client
	if !as(&manager) {
		return unprepared()
	}
	*manager = *transfermanager.New(s.client, func(o *transfermanager.Options) {
		o.MultipartUploadThreshold = maxPartBytes + 1
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	})
	return nil
}

func (s *s3Store) listing(asFunc) error  { return nil }
func (s *s3Store) removing(asFunc) error { return nil }

// remove asks the client itself: the driver asks first whether there is such an object, which is a request more for each,
// and whose answer is the same when there is no such bucket.
func (s *s3Store) remove(ctx context.Context, key string) error {
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.name, Key: &key})
	if err = ofS3(err); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// sweep aborts uploads that nobody will complete, of which the driver knows nothing.
func (s *s3Store) sweep(ctx context.Context, prefix string, before time.Time) error {
	in := &s3.ListMultipartUploadsInput{Bucket: &s.name, Prefix: &prefix}
	for {
		out, err := s.client.ListMultipartUploads(ctx, in)
		if err != nil {
			return ofS3(err)
		}
		for _, u := range out.Uploads {
			if !strings.HasPrefix(aws.ToString(u.Key), prefix) || !aws.ToTime(u.Initiated).Before(before) {
				continue
			}
			old := s3Upload{store: s, key: aws.ToString(u.Key), id: u.UploadId}
			if err := old.abort(ctx); err != nil {
				return err
			}
		}
		if !aws.ToBool(out.IsTruncated) || aws.ToString(out.NextKeyMarker) == "" {
			return nil
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
}

// s3Upload is an upload of several parts. The client does it and not the driver, whose manager of uploads
//   - takes a completion whose answer was lost for a failure, although the object is there;
//   - has parts of one length, so that with the default an object could not have more than 78 GiB;
//   - copies what is written into buffers of its own, for which a write would need twice the memory.
type s3Upload struct {
	store *s3Store
	key   string
	id    *string
	mark  string
	lock  sync.Mutex
	tags  map[int]string
}

func (s *s3Store) begin(ctx context.Context, key string) (upload, error) {
	u := &s3Upload{store: s, key: key, mark: rand.Text(), tags: map[int]string{}}
	out, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &s.name, Key: &key, Metadata: map[string]string{writeMark: u.mark},
	})
	if err != nil {
		return nil, ofS3(err)
	}
	u.id = out.UploadId
	return u, nil
}

func (u *s3Upload) send(ctx context.Context, p part) error {
	if len(p.content) == 0 {
		return nil
	}
	out, err := u.store.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &u.store.name, Key: &u.key, UploadId: u.id, PartNumber: aws.Int32(int32(p.number + 1)),
		Body: bytes.NewReader(p.content), ContentLength: aws.Int64(int64(len(p.content))),
	})
	if err != nil {
		return ofS3(err)
	}
	u.lock.Lock()
	defer u.lock.Unlock()
	u.tags[p.number] = aws.ToString(out.ETag)
	return nil
}

func (u *s3Upload) commit(ctx context.Context, _ int) error {
	var parts []types.CompletedPart
	for _, number := range slices.Sorted(maps.Keys(u.tags)) {
		parts = append(parts, types.CompletedPart{PartNumber: aws.Int32(int32(number + 1)), ETag: aws.String(u.tags[number])})
	}
	_, err := u.store.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &u.store.name, Key: &u.key, UploadId: u.id, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	if !gone(err) {
		return ofS3(err)
	}
	// Perhaps it was completed, and the answer was lost.
	head, headErr := u.store.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &u.store.name, Key: &u.key})
	if headErr == nil && head.Metadata[writeMark] == u.mark {
		return nil
	}
	if headErr = ofS3(headErr); mayHelp(headErr) {
		return headErr
	}
	return &failure{kind: ErrUnavailable, text: "the store lost an upload before it was completed"}
}

func (u *s3Upload) abort(ctx context.Context) error {
	_, err := u.store.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &u.store.name, Key: &u.key, UploadId: u.id})
	if gone(err) {
		return nil
	}
	return ofS3(err)
}

// gone reports whether an upload is not there any more.
func gone(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == "NoSuchUpload"
}
