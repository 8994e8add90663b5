// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/storage"
	"gocloud.dev/blob"
	"gocloud.dev/blob/gcsblob"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/jwt"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	"github.com/moco-mysql/moco/pkg/backup/wire"
)

const (
	googleEndpoint = "https://storage.googleapis.com"
	googleScope    = "https://www.googleapis.com/auth/devstorage.read_write"
	googleTokens   = "https://oauth2.googleapis.com/token"
)

// gcsStore is a bucket of Google Cloud Storage, by its JSON interface.
type gcsStore struct {
	driven
	name, endpoint string
	options        Options
	// requests is what the library and this package send requests with.
	requests *http.Client
}

// serviceAccount is what is used of a file serviceAccount.json. The other types of such files tell to run programs or to
// read files and addresses of the machine: they are refused.
type serviceAccount struct {
	Type         string `json:"type"`
	ClientEmail  string `json:"client_email"`
	PrivateKey   string `json:"private_key"`
	PrivateKeyID string `json:"private_key_id"`
	TokenURI     string `json:"token_uri"`
}

func openGCS(ctx context.Context, s wire.Store, o Options) (backend, error) {
	if s.Bucket == "" {
		return nil, invalid("the store names no bucket")
	}
	account, err := readServiceAccount(s)
	if err != nil {
		return nil, err
	}
	endpoint := strings.TrimSuffix(cmp.Or(s.Endpoint, googleEndpoint), "/")
	address, err := checkEndpoint(endpoint)
	if err != nil {
		return nil, err
	}
	if address.Path != "" {
		return nil, invalid("the endpoint of a store of Google's has no path")
	}
	plain, err := client(s, o)
	if err != nil {
		return nil, err
	}
	tokens := *plain
	tokens.Timeout = o.RequestTimeout
	config := jwt.Config{
		Email: account.ClientEmail, PrivateKey: []byte(account.PrivateKey), PrivateKeyID: account.PrivateKeyID,
		Scopes: []string{googleScope}, TokenURL: account.TokenURI,
	}
	// Tokens are asked for as long as the bucket is open.
	source := config.TokenSource(context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, &tokens))
	requests := *plain
	requests.Transport = &gcsTransport{base: &oauth2.Transport{Base: plain.Transport, Source: source}, endpoint: address}
	return newGCS(ctx, &gcsStore{name: s.Bucket, endpoint: endpoint, options: o, requests: &requests}, plain)
}

// newGCS puts the library's client below a store.
func newGCS(ctx context.Context, g *gcsStore, plain *http.Client) (backend, error) {
	// The library is told that it has no credentials, for it would look for those of the process and the machine.
	api, err := storage.NewClient(ctx, option.WithHTTPClient(g.requests), option.WithoutAuthentication(),
		option.WithEndpoint(g.endpoint+"/storage/v1/"), storage.WithJSONReads(), storage.WithDisabledClientMetrics())
	if err != nil {
		return nil, invalid("the endpoint of the store does not do for Google")
	}
	api.SetRetry(storage.WithPolicy(storage.RetryNever))
	bucket, err := gcsblob.OpenBucket(ctx, nil, g.name, &gcsblob.Options{Client: api})
	if err != nil {
		return nil, invalid("the bucket of the store does not do for Google")
	}
	g.driven = driven{bucket: bucket, http: plain, provider: g}
	return g, nil
}

func readServiceAccount(s wire.Store) (serviceAccount, error) {
	content, err := credential(s, keyServiceAccount)
	if err != nil {
		return serviceAccount{}, err
	}
	account := serviceAccount{TokenURI: googleTokens}
	// The errors of the parsers are left out: they could quote the file.
	if json.Unmarshal([]byte(content), &account) != nil {
		return account, invalid("%s of the store's credentials is not JSON", keyServiceAccount)
	}
	if account.Type != "service_account" {
		return account, invalid("%s of the store's credentials is not of the type service_account", keyServiceAccount)
	}
	if block, _ := pem.Decode([]byte(account.PrivateKey)); block == nil || account.ClientEmail == "" {
		return account, invalid("%s of the store's credentials holds no private_key in PEM or no client_email", keyServiceAccount)
	}
	if _, err := checkEndpoint(account.TokenURI); err != nil {
		return account, invalid("token_uri in %s of the store's credentials is no URL", keyServiceAccount)
	}
	return account, nil
}

func (g *gcsStore) String() string {
	return fmt.Sprintf("GCS bucket %q at %s", g.name, g.endpoint)
}

func (g *gcsStore) location(key string) string { return "gs://" + g.name + "/" + key }

// parallel is 1: the parts of an upload follow each other.
func (g *gcsStore) parallel(int) int { return 1 }

// ofToken is the failure of a request without an answer, perhaps because there was no token for it.
func ofToken(err error) error {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.Response != nil {
		f := ofStatus(refused.Response.StatusCode)
		if errors.Is(f.kind, ErrInvalid) || errors.Is(f.kind, ErrNotFound) {
			f.kind = ErrDenied
		}
		var said struct {
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}
		_ = json.Unmarshal(refused.Body, &said)
		f.text = oneLine("no token was given for the service account: " + strings.Trim(said.Error+": "+said.Description, ": "))
		return &f
	}
	return unanswered(err)
}

// failed is the failure of a request to Google; nil stays nil.
func (g *gcsStore) failed(err error) error {
	if err == nil {
		return nil
	}
	var answer *googleapi.Error
	if !errors.As(err, &answer) {
		return ofToken(err)
	}
	reason := ""
	if len(answer.Errors) > 0 {
		reason = answer.Errors[0].Reason
	}
	return answered(answer.Code, reason, cmp.Or(answer.Message, answer.Body))
}

// get makes one request, which the library would follow by others when the connection breaks.
func (g *gcsStore) get(ctx context.Context, key string, at position) (*body, error) {
	b, err := g.driven.get(withCall(ctx, &gcsCall{once: true}), key, at)
	if errors.Is(err, ErrNotFound) {
		return nil, g.missing(ctx, err)
	}
	return b, err
}

func (g *gcsStore) reading(as asFunc, version string) error {
	var object **storage.ObjectHandle
	if !as(&object) {
		return unprepared()
	}
	if version == "" {
		return nil
	}
	generation, err := strconv.ParseInt(version, 10, 64)
	if err != nil {
		return invalid("the store told a generation that is none")
	}
	*object = (*object).Generation(generation)
	return nil
}

func (g *gcsStore) opened(r *blob.Reader) (size int64, version string) {
	var raw *storage.Reader
	if !r.As(&raw) {
		return -1, ""
	}
	if raw.Attrs.Generation > 0 {
		version = strconv.FormatInt(raw.Attrs.Generation, 10)
	}
	return r.Size(), version
}

// missing tells an object that is not there from a bucket that is not, for which the answer is the same.
func (g *gcsStore) missing(ctx context.Context, notFound error) error {
	if _, err := g.list(ctx, query{prefix: "moco-no-such-object"}); err != nil {
		return err
	}
	return notFound
}

// noBucket is what it means that something is not found which needs nothing but the bucket.
func noBucket(err error) error {
	if errors.Is(err, ErrNotFound) {
		return &failure{kind: ErrNoBucket}
	}
	return err
}

func (g *gcsStore) put(ctx context.Context, key string, content []byte, c condition) error {
	return noBucket(g.driven.put(ctx, key, content, c))
}

func (g *gcsStore) writing(asFunc) error { return nil }

func (g *gcsStore) list(ctx context.Context, q query) (page, error) {
	p, err := g.driven.list(ctx, q)
	return p, noBucket(err)
}

func (g *gcsStore) listing(as asFunc) error {
	var q *storage.Query
	if !as(&q) {
		return unprepared()
	}
	// Who may see an object is not asked for, and need not be known to the account.
	q.Projection = storage.ProjectionNoACL
	if err := q.SetAttrSelection([]string{"Name", "Size", "Updated"}); err != nil {
		return unprepared()
	}
	return nil
}

func (g *gcsStore) removing(asFunc) error { return nil }

// sweep has nothing to do: an upload that is not completed ends by itself within a week.
func (g *gcsStore) sweep(context.Context, string, time.Time) error { return nil }
