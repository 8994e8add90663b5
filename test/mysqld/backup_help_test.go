// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/seal"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/pki"
	"github.com/moco-mysql/moco/test/mysqld"
)

// strangersCA are certificates that nothing here is signed by.
func strangersCA(t *testing.T) string {
	t.Helper()
	stranger, err := pki.NewCA(time.Now(), pki.CARequest{CommonName: "stranger", Validity: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return string(stranger.CertPEM())
}

// unsealed is the content of a stored object that is not encrypted.
func unsealed(t *testing.T, path string) []byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	reader, err := seal.NewReader(file, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	text, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// awaitStage waits until the progress of a Job shows a stage.
func (r *runningJob) awaitStage(t *testing.T, stage string) {
	t.Helper()
	deadline := time.Now().Add(mysqld.Patience)
	var last wire.JobProgress
	for last.Stage != stage {
		if time.Now().After(deadline) {
			t.Fatalf("the Job never came to %q; last was %+v\n%s", stage, last, r.output)
		}
		answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/progress", r.port))
		if err != nil {
			continue // it does not listen yet
		}
		err = json.NewDecoder(answer.Body).Decode(&last)
		_ = answer.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
}
