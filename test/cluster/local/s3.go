// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package local

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moco-mysql/moco/test/cluster/config"
)

// S3EnvFile holds the S3 server's address and credentials.
func (c *Cluster) S3EnvFile() string { return filepath.Join(c.Output, "s3.env") }

type keyPair struct{ access, secret string }

// s3Keys makes the S3 server's credentials once and writes them, with what else
// a client needs, to s3.env: a file that a shell can source.
func (c *Cluster) s3Keys() (keyPair, error) {
	saved := c.Path("s3.keys")
	content, err := os.ReadFile(saved)
	if err != nil {
		content = []byte(rand.Text() + " " + rand.Text() + "\n")
		if err := os.WriteFile(saved, content, 0o600); err != nil {
			return keyPair{}, fmt.Errorf("making S3 credentials: %w", err)
		}
	}
	f := strings.Fields(string(content))
	if len(f) != 2 {
		return keyPair{}, fmt.Errorf("reading S3 credentials: %s is damaged", saved)
	}
	k := keyPair{access: f[0], secret: f[1]}
	env := fmt.Sprintf("AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\nAWS_REGION=us-east-1\nAWS_ENDPOINT_URL=%s\n",
		k.access, k.secret, config.S3Endpoint())
	if err := os.WriteFile(c.S3EnvFile(), []byte(env), 0o600); err != nil {
		return keyPair{}, fmt.Errorf("writing S3 credentials: %w", err)
	}
	return k, nil
}
