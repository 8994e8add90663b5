// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Fingerprint tells one restore from another: what is restored and up to where, but neither credentials nor endpoints,
// which may change while it is the same.
func (s *Source) Fingerprint() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %d %q %q %t", s.Store.Bucket, s.Store.Prefix, s.Cluster.Root(), s.Backup,
		s.Target.Time.UnixMicro(), s.Target.GTID, s.Target.BeforeGTID, s.Target.Latest))
	return hex.EncodeToString(sum[:16])
}
