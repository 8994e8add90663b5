// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"testing"

	"github.com/moco-mysql/moco/pkg/backup/store/storetest"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

func TestADirectoryIsAStore(t *testing.T) {
	storetest.Run(t, wire.Store{Provider: wire.ProviderVolume, Directory: t.TempDir()})
}

func TestMemoryIsAStore(t *testing.T) {
	storetest.Run(t, wire.Store{Provider: wire.ProviderMemory, Bucket: t.Name()})
}
