// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package azure_test shows what pkg/backup/store does with Azurite, Microsoft's own stand-in for Azure Blob Storage. It is
// a program of Node.js, so these tests need npm.
package azure_test

import (
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/backup/store/storetest"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/test/store/fault"
)

const account = "backupaccount"

// install installs the server as package-lock.json pins it, and returns its program.
func install(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json"} {
		content, err := os.ReadFile(filepath.Join("azurite", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	command.Dir, command.Stdout, command.Stderr = dir, t.Output(), t.Output()
	if err := command.Run(); err != nil {
		t.Fatalf("installing Azurite: %v", err)
	}
	return filepath.Join(dir, "node_modules", ".bin", "azurite-blob")
}

// start starts a server of its own, and returns a container of it.
func start(t *testing.T, program string) wire.Store {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	key := base64.StdEncoding.EncodeToString([]byte("a-secret-that-must-not-be-told"))
	server := exec.CommandContext(t.Context(), program, "--blobHost=127.0.0.1", "--blobPort="+port, "--inMemoryPersistence",
		"--silent", "--disableTelemetry", "--skipApiVersionCheck")
	server.Env = append(os.Environ(), "AZURITE_ACCOUNTS="+account+":"+key)
	server.Stdout, server.Stderr = t.Output(), t.Output()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	s := wire.Store{Provider: wire.ProviderAzure, Bucket: "backups", Account: account,
		Endpoint: "http://127.0.0.1:" + port + "/" + account, Credentials: map[string]string{"accountKey": key + "\n"}}
	await(t, "http://127.0.0.1:"+port)
	create(t, s, key)
	return s
}

func await(t *testing.T, address string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for {
		response, err := http.Get(address)
		if err == nil {
			_ = response.Body.Close()
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the server does not answer: %v", err)
		}
	}
}

func create(t *testing.T, s wire.Store, key string) {
	t.Helper()
	shared, err := container.NewSharedKeyCredential(account, key)
	if err != nil {
		t.Fatal(err)
	}
	client, err := container.NewClientWithSharedKeyCredential(s.Endpoint+"/"+s.Bucket, shared, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

func TestAzure(t *testing.T) {
	program := install(t)
	s := start(t, program)
	t.Run("it is a store", func(t *testing.T) { storetest.Run(t, s) })
	t.Run("faults do no harm", func(t *testing.T) { fault.Run(t, start(t, program)) })
	t.Run("a wrong key is refused and not told", func(t *testing.T) { denied(t, s) })
	t.Run("a container that is not there is not taken for empty", func(t *testing.T) { noContainer(t, s) })
}

func denied(t *testing.T, s wire.Store) {
	wrong := base64.StdEncoding.EncodeToString([]byte("another-secret"))
	s.Credentials = map[string]string{"accountKey": wrong}
	b := storetest.OpenAs(t, s)
	_, read := b.Reader(t.Context(), "object")
	_, written := b.Write(t.Context(), "object", strings.NewReader("x"))
	for _, err := range []error{b.Check(t.Context(), "root"), read, written} {
		if !errors.Is(err, store.ErrDenied) || strings.Contains(err.Error(), wrong) {
			t.Errorf("got %v, want ErrDenied", err)
		}
	}
	s.Credentials = map[string]string{"accountKey": "no base64!"}
	if _, err := store.Open(t.Context(), s); !errors.Is(err, store.ErrInvalid) || strings.Contains(err.Error(), "no base64!") {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}

func noContainer(t *testing.T, s wire.Store) {
	s.Bucket = "not-there"
	b := storetest.OpenAs(t, s)
	_, read := b.Reader(t.Context(), "object")
	_, written := b.Write(t.Context(), "object", strings.NewReader("x"))
	_, many := b.Write(t.Context(), "object", strings.NewReader(string(storetest.Content(2*storetest.PartBytes, 1))))
	for _, err := range []error{read, written, many, b.Check(t.Context(), "")} {
		if !errors.Is(err, store.ErrNoBucket) || errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v, want ErrNoBucket", err)
		}
	}
}
