// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"bytes"
	"errors"
	"testing"

	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/backup/plan"
	"github.com/moco-mysql/moco/pkg/backup/seal"
	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

func TestASegmentFillsNoMoreThanItSays(t *testing.T) {
	bucket, err := store.Open(t.Context(), wire.Store{Provider: wire.ProviderMemory, Bucket: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	var object bytes.Buffer
	writer, err := seal.NewWriter(&object, "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = writer.Write(make([]byte, 10<<20))
	if err := errors.Join(err, writer.Close()); err != nil {
		t.Fatal(err)
	}
	stored, raw := writer.Stored(), writer.Raw()
	if _, err := bucket.Write(t.Context(), "segment", &object); err != nil {
		t.Fatal(err)
	}
	r := &Restore{archives: bucket}
	honest := archive.Segment{StoredBytes: stored.Bytes, SHA256: stored.SHA256, RawBytes: raw.Bytes, RawSHA256: raw.SHA256}
	var made bytes.Buffer
	if err := r.copySegment(t.Context(), plan.Segment{Segment: honest, Key: "segment"}, &made); err != nil || int64(made.Len()) != raw.Bytes {
		t.Errorf("%d bytes: %v", made.Len(), err)
	}
	made.Reset()
	small := honest
	small.RawBytes = 1000
	if err := r.copySegment(t.Context(), plan.Segment{Segment: small, Key: "segment"}, &made); !errors.Is(err, errDamaged) || made.Len() > 1000 {
		t.Errorf("%d bytes were written of a segment of 1000: %v", made.Len(), err)
	}
}
