// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	azblob "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"gocloud.dev/blob"
	"gocloud.dev/blob/azureblob"

	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// azureStore is a container of Azure Blob Storage.
type azureStore struct {
	driven
	endpoint, container string
	client              *container.Client
}

func openAzure(ctx context.Context, s wire.Store, o Options) (backend, error) {
	if s.Bucket == "" || s.Account == "" {
		return nil, invalid("the store names no container or no account")
	}
	key, err := credential(s, keyAccountKey)
	if err != nil {
		return nil, err
	}
	shared, err := container.NewSharedKeyCredential(s.Account, key)
	if err != nil {
		return nil, invalid("%s of the store's credentials is not in base64", keyAccountKey)
	}
	endpoint := strings.TrimSuffix(s.Endpoint, "/")
	if endpoint == "" {
		endpoint = "https://" + s.Account + ".blob.core.windows.net"
	}
	address, err := checkEndpoint(endpoint)
	if err != nil {
		return nil, err
	}
	h, err := client(s, o)
	if err != nil {
		return nil, err
	}
	c, err := container.NewClientWithSharedKeyCredential(address.JoinPath(s.Bucket).String(), shared, &container.ClientOptions{
		ClientOptions: policy.ClientOptions{Transport: h, Retry: policy.RetryOptions{MaxRetries: -1}},
	})
	if err != nil {
		return nil, invalid("the endpoint of the store does not do for Azure")
	}
	bucket, err := azureblob.OpenBucket(ctx, c, nil)
	if err != nil {
		return nil, invalid("the container of the store does not do for Azure")
	}
	store := &azureStore{endpoint: endpoint, container: s.Bucket, client: c}
	store.driven = driven{bucket: bucket, http: h, provider: store}
	return store, nil
}

func (a *azureStore) String() string {
	return fmt.Sprintf("Azure container %q at %s", a.container, a.endpoint)
}

func (a *azureStore) location(key string) string {
	return a.endpoint + "/" + a.container + "/" + key
}

func (a *azureStore) parallel(n int) int { return n }

func (a *azureStore) failed(err error) error { return ofAzure(err) }

// ofAzure is the failure of a request to Azure; nil stays nil.
func ofAzure(err error) error {
	if err == nil {
		return nil
	}
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		return answered(response.StatusCode, response.ErrorCode, "")
	}
	return unanswered(err)
}

func (a *azureStore) reading(as asFunc, version string) error {
	var o *azblob.DownloadStreamOptions
	if !as(&o) {
		return unprepared()
	}
	if version != "" {
		tag := azcore.ETag(version)
		o.AccessConditions = &azblob.AccessConditions{ModifiedAccessConditions: &azblob.ModifiedAccessConditions{IfMatch: &tag}}
	}
	return nil
}

func (a *azureStore) opened(r *blob.Reader) (size int64, version string) {
	var out azblob.DownloadStreamResponse
	if !r.As(&out) || out.ContentLength == nil {
		return -1, ""
	}
	if out.ETag != nil {
		version = string(*out.ETag)
	}
	return r.Size(), version
}

func (a *azureStore) writing(as asFunc) error {
	var o *blockblob.UploadStreamOptions
	if !as(&o) {
		return unprepared()
	}
	o.TransactionalValidation = azblob.TransferValidationTypeComputeCRC64()
	return nil
}

func (a *azureStore) listing(asFunc) error { return nil }

func (a *azureStore) removing(as asFunc) error {
	var o *azblob.DeleteOptions
	if !as(&o) {
		return unprepared()
	}
	snapshots := azblob.DeleteSnapshotsOptionTypeInclude
	o.DeleteSnapshots = &snapshots
	return nil
}

// sweep has nothing to do: Azure forgets blocks that were not committed within a week, and there is no way to do so before.
func (a *azureStore) sweep(context.Context, string, time.Time) error { return nil }

// azureUpload is a list of blocks. The client does it and not the driver, which copies what is written into blocks of its
// own: a write would need twice the memory.
type azureUpload struct {
	blob *blockblob.Client
	mark string
	// empty: the last part is, and is no block.
	empty bool
}

func (a *azureStore) begin(_ context.Context, key string) (upload, error) {
	return &azureUpload{blob: a.client.NewBlockBlobClient(key), mark: rand.Text()}, nil
}

// block is the id of a block; no other write has it, and all are of the same length, as Azure wants.
func (u *azureUpload) block(number int) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s-%05d", u.mark, number))
}

func (u *azureUpload) send(ctx context.Context, p part) error {
	if len(p.content) == 0 {
		u.empty = true
		return nil
	}
	_, err := u.blob.StageBlock(ctx, u.block(p.number), streaming.NopCloser(bytes.NewReader(p.content)), &blockblob.StageBlockOptions{
		TransactionalValidation: azblob.TransferValidationTypeComputeCRC64(),
	})
	return ofAzure(err)
}

// commit may be repeated: blocks that are committed already count as well.
func (u *azureUpload) commit(ctx context.Context, n int) error {
	if u.empty {
		n--
	}
	blocks := make([]string, 0, n)
	for number := range n {
		blocks = append(blocks, u.block(number))
	}
	_, err := u.blob.CommitBlockList(ctx, blocks, nil)
	return ofAzure(err)
}

func (u *azureUpload) abort(context.Context) error { return nil }
