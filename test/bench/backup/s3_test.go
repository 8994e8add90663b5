// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/test/mysqld"
)

// serverVariable names the program of the S3 server; without it nothing is sent to one.
const serverVariable = "MOCO_BENCH_S3_SERVER"

// newS3 starts an S3 server that keeps its objects in a directory, and returns a bucket of it and that directory; "" when
// there is no program.
func newS3(t *testing.T) (bucket wire.Store, objects string) {
	t.Helper()
	program := os.Getenv(serverVariable)
	if program == "" {
		t.Logf("%s is not set: nothing is measured with S3", serverVariable)
		return wire.Store{}, ""
	}
	root := scratch(t)
	objects = filepath.Join(root, "backups")
	if err := os.Mkdir(objects, 0o755); err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", mysqld.FreePort(t))
	server := exec.CommandContext(t.Context(), program, "--port="+address, "--quiet", "posix", root) //nolint:gosec // the test's own
	server.Env = append(os.Environ(), "ROOT_ACCESS_KEY=bench", "ROOT_SECRET_KEY=by-hand")
	server.Stdout, server.Stderr = t.Output(), t.Output()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	answers(t, "http://"+address)
	return wire.Store{
		Provider: wire.ProviderS3, Bucket: "backups", Endpoint: "http://" + address, PathStyle: true,
		Credentials: map[string]string{"accessKeyID": "bench", "secretAccessKey": "by-hand"},
	}, objects
}

// answers waits until a server does.
func answers(t *testing.T, address string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(mysqld.Patience)
	for {
		response, err := http.Get(address) //nolint:gosec // bounded by the test's patience
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
