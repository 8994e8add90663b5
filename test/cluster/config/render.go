// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"embed"
	"fmt"
	"text/template"
)

//go:embed files/*.tmpl
var files embed.FS

var templates = template.Must(template.ParseFS(files, "files/*.tmpl"))

// Addresses and names for the templates.
type vars struct {
	Cluster Cluster
	Node    Node
	Images  Images
	Const   map[string]string
}

// Images names the images that the cluster itself needs.
type Images struct {
	// Pause is the sandbox's image, by its full name.
	Pause string
	// CoreDNS is the name server's image.
	CoreDNS string
}

var constants = map[string]string{
	"DNSAddress":   DNSAddress,
	"Provisioner":  Provisioner,
	"StorageClass": StorageClass,
}

func render(name string, v vars) ([]byte, error) {
	v.Const = constants
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, v); err != nil {
		return nil, fmt.Errorf("rendering %s: %w", name, err)
	}
	return b.Bytes(), nil
}

// ContainerdConfig renders node n's containerd.toml.
func (c Cluster) ContainerdConfig(n Node, images Images) ([]byte, error) {
	return render("containerd.toml.tmpl", vars{Cluster: c, Node: n, Images: images})
}

// CNIConfig renders node n's network plugin configuration: a bridge inside the
// node's namespace, with an address range of its own.
func (c Cluster) CNIConfig(n Node) ([]byte, error) {
	return render("cni.conflist.tmpl", vars{Cluster: c, Node: n})
}

// KubeletConfig renders node n's KubeletConfiguration.
func (c Cluster) KubeletConfig(n Node) ([]byte, error) {
	return render("kubelet.yaml.tmpl", vars{Cluster: c, Node: n})
}

// Addons renders the objects that every cluster starts with: CoreDNS, the
// storage class, and kube-proxy's role.
func (c Cluster) Addons(images Images) ([]byte, error) {
	return render("addons.yaml.tmpl", vars{Cluster: c, Images: images})
}

// ResolvConf is the resolver configuration of Pods that ask for the node's own.
// The host's file is not used: its search domains and servers belong to another
// network and would leak into Pods.
func ResolvConf() []byte { return []byte("nameserver " + DNSAddress + "\n") }
