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
	content := map[string][]byte{}
	for _, name := range []string{"ca.crt", id + ".crt", id + ".key"} {
		var err error
		if content[name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("writing a kubeconfig: %w", err)
		}
	}
	c := clientcmdapi.NewConfig()
	c.Clusters["local"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: content["ca.crt"]}
	c.AuthInfos[id] = &clientcmdapi.AuthInfo{ClientCertificateData: content[id+".crt"], ClientKeyData: content[id+".key"]}
	c.Contexts["local"] = &clientcmdapi.Context{Cluster: "local", AuthInfo: id}
	c.CurrentContext = "local"
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		return fmt.Errorf("writing a kubeconfig: %w", err)
	}
	return nil
}
