// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// WriteKubeconfig writes a kubeconfig with everything in it, for the identity
// whose files are called id in dir.
func WriteKubeconfig(path, server, dir, id string) error {
	read := func(name string) []byte {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil // clientcmd refuses the empty value when it is used
		}
		return content
	}
	c := clientcmdapi.NewConfig()
	c.Clusters["local"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: read("ca.crt")}
	c.AuthInfos[id] = &clientcmdapi.AuthInfo{ClientCertificateData: read(id + ".crt"), ClientKeyData: read(id + ".key")}
	c.Contexts["local"] = &clientcmdapi.Context{Cluster: "local", AuthInfo: id}
	c.CurrentContext = "local"
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		return fmt.Errorf("writing a kubeconfig: %w", err)
	}
	return nil
}
