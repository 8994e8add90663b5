// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gcs_test shows what pkg/backup/store does with a server that behaves as Google's.
package gcs_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/fsouza/fake-gcs-server/fakestorage"

	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/backup/store/storetest"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/test/store/fault"
)

// google is a server of tokens and, behind it, one of objects that takes only those tokens.
type google struct {
	store   wire.Store
	tokens  *httptest.Server
	uploads *sessions
	// refuse: tokens are given to nobody.
	refuse atomic.Bool
	asked  atomic.Int32
}

const token = "a-token-that-must-not-be-told"

func start(t *testing.T) *google {
	t.Helper()
	objects, err := fakestorage.NewServerWithOptions(fakestorage.Options{Scheme: "http", Host: "127.0.0.1", NoListener: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(objects.Stop)
	objects.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: "backups"})
	handler := &sessions{objects: objects.HTTPHandler(), open: map[string]*session{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			http.Error(w, `{"error": {"message": "Invalid Credentials", "errors": [{"reason": "authError"}]}}`, http.StatusUnauthorized)
			return
		}
		// The server knows its buckets by its own name for itself.
		r.Host = "storage.googleapis.com"
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	g := &google{uploads: handler}
	g.tokens = httptest.NewServer(http.HandlerFunc(g.grant))
	t.Cleanup(g.tokens.Close)
	g.store = wire.Store{Provider: wire.ProviderGCS, Bucket: "backups", Endpoint: server.URL,
		Credentials: map[string]string{"serviceAccount.json": account(t, "service_account", g.tokens.URL)}}
	return g
}

func (g *google) grant(w http.ResponseWriter, r *http.Request) {
	g.asked.Add(1)
	w.Header().Set("Content-Type", "application/json")
	if g.refuse.Load() || r.FormValue("assertion") == "" {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}`))
		return
	}
	_, _ = w.Write([]byte(`{"access_token": "` + token + `", "token_type": "Bearer", "expires_in": 3600}`))
}

func account(t *testing.T, kind, tokens string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	content, err := json.Marshal(map[string]string{
		"type": kind, "client_email": "backup@project.example", "token_uri": tokens, "private_key_id": "1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestGCSIsAStore(t *testing.T) {
	g := start(t)
	storetest.Run(t, g.store)
}

func TestFaultsDoNoHarm(t *testing.T) {
	g := start(t)
	fault.Run(t, g.store)
}

func TestAWriteThatFailsGivesUpItsUpload(t *testing.T) {
	g := start(t)
	b := storetest.OpenAs(t, g.store)
	broken := errors.New("the source broke")
	source := io.MultiReader(bytes.NewReader(storetest.Content(3*storetest.PartBytes, 1)), iotest.ErrReader(broken))
	if _, err := b.Write(t.Context(), "object", source); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if begun, left := g.uploads.count(); begun != 1 || left != 0 {
		t.Errorf("%d uploads were begun and %d left, want 1 and none", begun, left)
	}
}

func TestTheEnvironmentNamesNoServer(t *testing.T) {
	g := start(t)
	t.Setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:1")
	if err := storetest.OpenAs(t, g.store).Check(t.Context(), ""); err != nil {
		t.Error(err)
	}
}

func TestATokenIsUsedForManyRequests(t *testing.T) {
	g := start(t)
	if err := storetest.OpenAs(t, g.store).Check(t.Context(), "root"); err != nil {
		t.Fatal(err)
	}
	if n := g.asked.Load(); n != 1 {
		t.Errorf("%d tokens were asked for, want 1", n)
	}
}

func TestWithoutATokenAccessIsDenied(t *testing.T) {
	g := start(t)
	g.refuse.Store(true)
	err := storetest.OpenAs(t, g.store).Check(t.Context(), "root")
	if !errors.Is(err, store.ErrDenied) || !strings.Contains(err.Error(), "invalid_grant") {
		t.Errorf("got %v, want ErrDenied", err)
	}
}

func TestABucketThatIsNotThereIsNotTakenForEmpty(t *testing.T) {
	g := start(t)
	g.store.Bucket = "not-there"
	b := storetest.OpenAs(t, g.store)
	_, read := b.Reader(t.Context(), "object")
	_, written := b.Write(t.Context(), "object", strings.NewReader("x"))
	_, many := b.Write(t.Context(), "object", strings.NewReader(string(storetest.Content(2*storetest.PartBytes, 1))))
	for _, err := range []error{read, written, many, b.Check(t.Context(), "")} {
		if !errors.Is(err, store.ErrNoBucket) || errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v, want ErrNoBucket", err)
		}
	}
}

func TestOnlyServiceAccountsAreCredentials(t *testing.T) {
	g := start(t)
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent")
	for name, content := range map[string]string{
		"nothing":                         "",
		"nonsense":                        "nonsense",
		"an account that runs a program":  account(t, "external_account", g.tokens.URL),
		"a user":                          account(t, "authorized_user", g.tokens.URL),
		"an account without a key":        `{"type": "service_account", "client_email": "x"}`,
		"an account with a strange token": account(t, "service_account", "file:///etc/passwd"),
	} {
		g.store.Credentials = map[string]string{"serviceAccount.json": content}
		if _, err := store.Open(t.Context(), g.store); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
}
