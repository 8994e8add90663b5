// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/backup/store/storetest"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// files are all files below a directory.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, path)
			found = append(found, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	return found
}

func directory(t *testing.T) (*store.Bucket, string) {
	t.Helper()
	dir := t.TempDir()
	return storetest.OpenAs(t, wire.Store{Provider: wire.ProviderVolume, Directory: dir}), dir
}

func TestADirectoryHoldsNothingButObjects(t *testing.T) {
	b, dir := directory(t)
	storetest.Write(t, b, "a/small", []byte("x"))
	storetest.Write(t, b, "a/large", storetest.Content(2*storetest.PartBytes+1, 1))
	if err := b.WriteNew(t.Context(), "a/new", []byte("y")); err != nil {
		t.Fatal(err)
	}
	if err := b.WriteNew(t.Context(), "a/new", []byte("z")); !errors.Is(err, store.ErrExists) {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	source := io.MultiReader(bytes.NewReader(storetest.Content(2*storetest.PartBytes, 1)), iotest.ErrReader(broken))
	if _, err := b.Write(t.Context(), "a/broken", source); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a/large", "a/new", "a/small"}, files(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// TestAWriteOfADeadProcessIsSweptLater looks while a write goes on: what is there then is what a process leaves that dies.
func TestAWriteOfADeadProcessIsSweptLater(t *testing.T) {
	b, dir := directory(t)
	source, feed := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := b.Write(t.Context(), "a/object", source)
		done <- err
	}()
	if _, err := feed.Write(storetest.Content(2*storetest.PartBytes, 1)); err != nil {
		t.Fatal(err)
	}
	left := files(t, dir)
	if len(left) != 1 || !strings.HasPrefix(left[0], ".moco-partial/") || len(storetest.Keys(t, b, "")) != 0 {
		t.Fatalf("files %v, keys %v", left, storetest.Keys(t, b, ""))
	}
	for _, sweep := range []struct {
		before time.Time
		want   []string
	}{{time.Now().Add(-time.Hour), left}, {time.Now().Add(time.Hour), nil}} {
		if err := b.Sweep(t.Context(), "", sweep.before); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sweep.want, files(t, dir)); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
	}
	if err := feed.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("a write whose file was swept succeeded")
	}
	if found := files(t, dir); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

func TestNothingOutsideTheDirectoryIsTouched(t *testing.T) {
	b, dir := directory(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if content, err := b.ReadAll(t.Context(), "link/secret", 100); err == nil {
		t.Errorf("read %q", content)
	}
	if err := b.WriteNew(t.Context(), "link/new", []byte("x")); err == nil {
		t.Error("written behind a link")
	}
	if err := b.Delete(t.Context(), "link/secret"); err == nil {
		t.Error("deleted behind a link")
	}
	if diff := cmp.Diff([]string{"secret"}, files(t, outside)); diff != "" {
		t.Errorf("files outside (-want +got):\n%s", diff)
	}
	if found := storetest.Keys(t, b, ""); len(found) > 0 {
		t.Errorf("listed %v", found)
	}
}

func TestStoresThatCannotBeOpened(t *testing.T) {
	s3 := map[string]string{"accessKeyID": "id", "secretAccessKey": "a-secret"}
	for name, test := range map[string]struct {
		store wire.Store
		want  error
	}{
		"no provider":                      {wire.Store{}, store.ErrInvalid},
		"a relative directory":             {wire.Store{Provider: wire.ProviderVolume, Directory: "a"}, store.ErrInvalid},
		"a directory that is not there":    {wire.Store{Provider: wire.ProviderVolume, Directory: "/nonexistent/a"}, store.ErrNoBucket},
		"a prefix that leaves the store":   {wire.Store{Provider: wire.ProviderMemory, Bucket: "b", Prefix: "../a"}, store.ErrInvalid},
		"no bucket":                        {wire.Store{Provider: wire.ProviderS3, Credentials: s3}, store.ErrInvalid},
		"an endpoint that is no URL":       {wire.Store{Provider: wire.ProviderS3, Bucket: "b", Endpoint: "s3.example.com", Credentials: s3}, store.ErrInvalid},
		"an endpoint with a password":      {wire.Store{Provider: wire.ProviderS3, Bucket: "b", Endpoint: "https://u:a-secret@host", Credentials: s3}, store.ErrInvalid},
		"Azure without an account":         {wire.Store{Provider: wire.ProviderAzure, Bucket: "b"}, store.ErrInvalid},
		"Azure with a key that is no key":  {wire.Store{Provider: wire.ProviderAzure, Bucket: "b", Account: "acc", Credentials: map[string]string{"accountKey": "a-secret"}}, store.ErrInvalid},
		"Google without a service account": {wire.Store{Provider: wire.ProviderGCS, Bucket: "b", Endpoint: "http://127.0.0.1:1"}, store.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := store.Open(t.Context(), test.store)
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "a-secret") {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}
