// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package s3_test shows what pkg/backup/store does with the S3 server of the local cluster.
package s3_test

import (
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/backup/store/storetest"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/test/store/fault"
)

const (
	accessKeyID = "AKIDFORTESTS"
	secret      = "a-secret-that-must-not-be-told"
)

// build builds the server at the version that the local cluster runs.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "versitygw")
	command := exec.CommandContext(t.Context(), "go", "-C", "../../cluster/tools/versitygw", "build", "-trimpath", "-o", program,
		"github.com/versity/versitygw/cmd/versitygw")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	command.Stdout, command.Stderr = t.Output(), t.Output()
	if err := command.Run(); err != nil {
		t.Fatalf("building the S3 server: %v", err)
	}
	return program
}

// start starts a server of its own for a test, and returns a bucket of it and the directory of its objects.
func start(t *testing.T, program string) (wire.Store, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	objects := filepath.Join(t.TempDir(), "s3")
	if err := os.MkdirAll(filepath.Join(objects, "backups"), 0o755); err != nil {
		t.Fatal(err)
	}
	server := exec.CommandContext(t.Context(), program, "--port="+address, "--quiet", "posix", objects)
	server.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+accessKeyID, "ROOT_SECRET_KEY="+secret)
	server.Stdout, server.Stderr = t.Output(), t.Output()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	await(t, "http://"+address)
	return wire.Store{Provider: wire.ProviderS3, Bucket: "backups", Endpoint: "http://" + address, PathStyle: true,
		Credentials: map[string]string{"accessKeyID": accessKeyID, "secretAccessKey": secret + "\n"}}, objects
}

// await waits until somebody answers.
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

// uploads are the files that the server keeps of uploads that were neither completed nor aborted.
func uploads(t *testing.T, objects string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(filepath.Join(objects, "backups", ".sgwtmp"), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestS3(t *testing.T) {
	program := build(t)
	for name, test := range map[string]func(*testing.T, string){
		"it is a store":                                       conforms,
		"faults do no harm":                                   faults,
		"a write that fails leaves no parts":                  abortsParts,
		"parts of a process that died are swept":              sweepsParts,
		"a CA of the credentials is trusted, others are not":  certificates,
		"credentials are refused and not told":                denied,
		"a bucket that is not there is not taken for empty":   noBucket,
		"the environment of the process gives no credentials": ambient,
	} {
		t.Run(name, func(t *testing.T) { test(t, program) })
	}
}

func conforms(t *testing.T, program string) {
	s, objects := start(t, program)
	storetest.Run(t, s)
	if left := uploads(t, objects); len(left) > 0 {
		t.Errorf("parts are left: %v", left)
	}
}

func faults(t *testing.T, program string) {
	s, objects := start(t, program)
	fault.Run(t, s)
	if err := storetest.OpenAs(t, s).Sweep(t.Context(), "", time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if left := uploads(t, objects); len(left) > 0 {
		t.Errorf("parts are left after sweeping: %v", left)
	}
}

// abortsParts lets the third part fail for good, and everything else pass.
func abortsParts(t *testing.T, program string) {
	s, objects := start(t, program)
	p := fault.New(t, s.Endpoint)
	p.Judge(func(_ int, r *http.Request) fault.Kind {
		if r.URL.Query().Get("partNumber") == "3" {
			return fault.CutRequest
		}
		return fault.None
	})
	s.Endpoint = p.URL
	b := storetest.OpenAs(t, s)
	_, err := b.Write(t.Context(), "dir/object", strings.NewReader(string(storetest.Content(4*storetest.PartBytes, 1))))
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if left := uploads(t, objects); len(left) > 0 {
		t.Errorf("parts are left: %v", left)
	}
	if found := storetest.Keys(t, b, ""); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

// sweepsParts lets no abortion pass, as if the process had died.
func sweepsParts(t *testing.T, program string) {
	s, objects := start(t, program)
	p := fault.New(t, s.Endpoint)
	p.Judge(func(_ int, r *http.Request) fault.Kind {
		if r.URL.Query().Get("partNumber") == "2" || r.Method == http.MethodDelete {
			return fault.Refuse
		}
		return fault.None
	})
	s.Endpoint = p.URL
	b := storetest.OpenAs(t, s)
	_, err := b.Write(t.Context(), "dir/object", strings.NewReader(string(storetest.Content(3*storetest.PartBytes, 1))))
	if !errors.Is(err, store.ErrUnavailable) || len(uploads(t, objects)) == 0 {
		t.Fatalf("got %v and the parts %v", err, uploads(t, objects))
	}
	p.Heal()
	for _, sweep := range []struct {
		prefix string
		before time.Time
		left   bool
	}{{"dir", time.Now().Add(-time.Hour), true}, {"other/", time.Now().Add(time.Hour), true}, {"dir/", time.Now().Add(time.Hour), false}} {
		if err := b.Sweep(t.Context(), sweep.prefix, sweep.before); err != nil {
			t.Fatal(err)
		}
		if left := uploads(t, objects); (len(left) > 0) != sweep.left {
			t.Errorf("after sweeping %q the parts are %v", sweep.prefix, left)
		}
	}
}

func certificates(t *testing.T, program string) {
	s, _ := start(t, program)
	p, server := fault.NewTLS(t, s.Endpoint)
	s.Endpoint = p.URL
	b := storetest.OpenAs(t, s)
	if err := b.Check(t.Context(), ""); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "ca.crt") {
		t.Errorf("without the CA: %v", err)
	}
	s.Credentials["ca.crt"] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	if err := storetest.OpenAs(t, s).Check(t.Context(), ""); err != nil {
		t.Errorf("with the CA: %v", err)
	}
	s.Credentials["ca.crt"] = "nonsense"
	if _, err := store.Open(t.Context(), s); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("with a CA that is none: %v", err)
	}
}

func denied(t *testing.T, program string) {
	s, _ := start(t, program)
	for name, credentials := range map[string]map[string]string{
		"a wrong secret":     {"accessKeyID": accessKeyID, "secretAccessKey": "another-secret"},
		"an unknown account": {"accessKeyID": "nobody", "secretAccessKey": secret},
	} {
		s.Credentials = credentials
		b := storetest.OpenAs(t, s)
		_, read := b.Reader(t.Context(), "object")
		_, written := b.Write(t.Context(), "object", strings.NewReader("x"))
		_, many := b.Write(t.Context(), "object", strings.NewReader(string(storetest.Content(2*storetest.PartBytes, 1))))
		for _, err := range []error{b.Check(t.Context(), "root"), read, written, many, b.Sweep(t.Context(), "", time.Now())} {
			if !errors.Is(err, store.ErrDenied) || !strings.Contains(err.Error(), s.Endpoint) || !strings.Contains(err.Error(), "backups") {
				t.Errorf("%s: got %v", name, err)
			}
			if err != nil && strings.Contains(err.Error(), credentials["secretAccessKey"]) {
				t.Errorf("%s: the secret is told: %v", name, err)
			}
		}
	}
}

func noBucket(t *testing.T, program string) {
	s, _ := start(t, program)
	s.Bucket = "not-there"
	b := storetest.OpenAs(t, s)
	_, read := b.Reader(t.Context(), "object")
	_, written := b.Write(t.Context(), "object", strings.NewReader("x"))
	_, many := b.Write(t.Context(), "object", strings.NewReader(string(storetest.Content(2*storetest.PartBytes, 1))))
	var listed error
	for _, err := range b.List(t.Context(), "") {
		listed = err
	}
	for _, err := range []error{read, written, many, listed, b.Check(t.Context(), "")} {
		if !errors.Is(err, store.ErrNoBucket) || errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v, want ErrNoBucket", err)
		}
	}
}

// ambient gives the process credentials that would do.
func ambient(t *testing.T, program string) {
	s, _ := start(t, program)
	t.Setenv("AWS_ACCESS_KEY_ID", accessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	for _, credentials := range []map[string]string{nil, {"accessKeyID": accessKeyID}, {"accessKeyID": accessKeyID, "secretAccessKey": "\n"}} {
		s.Credentials = credentials
		if _, err := store.Open(t.Context(), s); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("got %v, want ErrInvalid", err)
		}
	}
}
