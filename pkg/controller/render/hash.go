// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// AnnotationAppliedHash on a Service, EndpointSlice, ConfigMap, Secret or PodDisruptionBudget is the hash of what was
// last applied. Secrets are hashed without their data.
const AnnotationAppliedHash = "moco.dev/applied-hash"

// hashLength in hexadecimal digits: 80 bits, far beyond accidental collisions between two versions of one object.
const hashLength = 20

// hashOf is a short hash of the JSON form of v, which is the same for equal values because maps are sorted and empty
// fields omitted.
func hashOf(v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encoding for the hash: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])[:hashLength], nil
}
