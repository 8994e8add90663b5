// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package job

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

const (
	// progressTimeout bounds one question: a worker waits for it.
	progressTimeout = 500 * time.Millisecond
	// maxProgress bounds an answer, in bytes.
	maxProgress = 16 << 10
)

// Ask asks the Pod at an address how far it is. It takes half a second at most.
func Ask(ctx context.Context, ip string) (wire.JobProgress, error) {
	var progress wire.JobProgress
	ctx, cancel := context.WithTimeout(ctx, progressTimeout)
	defer cancel()
	url := "http://" + net.JoinHostPort(ip, strconv.Itoa(wire.ProgressPort)) + "/progress"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return progress, fmt.Errorf("asking for the progress: %w", err)
	}
	// A Pod is asked directly, whatever proxy the environment names, and not kept a connection to.
	// It is not followed anywhere else either: what answers there may be a tenant's program, and this process reaches more
	// than a tenant does.
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: maxProgress},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return progress, fmt.Errorf("asking for the progress: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return progress, fmt.Errorf("asking for the progress: the Pod answers %s", response.Status)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxProgress)).Decode(&progress); err != nil {
		return progress, fmt.Errorf("reading the progress: %w", err)
	}
	return progress, nil
}

// maxStage bounds what a Pod can write into a status, in bytes.
const maxStage = 256

// Progress is an answer in the words of a status: with the rate over the stage, and what remains at that rate.
func Progress(p wire.JobProgress) *v1beta1.BackupProgress {
	made := &v1beta1.BackupProgress{Stage: strings.ToValidUTF8(p.Stage[:min(len(p.Stage), maxStage)], ""), BytesDone: max(p.BytesDone, 0), BytesTotal: max(p.BytesTotal, 0)}
	if p.StageSeconds > 0 {
		made.BytesPerSecond = int64(float64(made.BytesDone) / p.StageSeconds)
	}
	if made.BytesPerSecond > 0 && made.BytesTotal >= made.BytesDone && made.BytesTotal > 0 {
		remaining := (made.BytesTotal - made.BytesDone) / made.BytesPerSecond
		made.RemainingSeconds = &remaining
	}
	return made
}
