// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/moco-mysql/moco/pkg/generated/clientset/versioned"
)

// ErrNoCluster says that there is nothing to test on.
var ErrNoCluster = errors.New("no Kubernetes cluster: run hack/local-cluster.sh up, or set KUBECONFIG")

// World is a Kubernetes cluster and the programs to use it with.
type World struct {
	// Repo is the root of the checkout.
	Repo string
	// Kubernetes and Moco are typed clients with the administrator's rights of the kubeconfig; the controller has its own.
	Kubernetes kubernetes.Interface
	Moco       versioned.Interface

	kubeconfig, kubectl string
}

// Open finds the cluster and the programs. It returns an error that wraps ErrNoCluster when nothing answers.
func Open(ctx context.Context) (*World, error) {
	w := &World{}
	var err error
	if w.Repo, err = repository(); err != nil {
		return nil, err
	}
	if w.kubeconfig = os.Getenv("KUBECONFIG"); w.kubeconfig == "" {
		w.kubeconfig = filepath.Join(w.Repo, "_output/local/kubeconfig")
	}
	if _, err := os.Stat(w.kubeconfig); err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrNoCluster, err)
	}
	if w.kubectl, err = findKubectl(); err != nil {
		return nil, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", w.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", w.kubeconfig, err)
	}
	if err := w.connect(config); err != nil {
		return nil, err
	}
	if _, err := w.Kubernetes.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrNoCluster, err)
	}
	return w, nil
}

func (w *World) connect(config *rest.Config) error {
	// The tests poll; they must not be throttled in their own client.
	config.QPS, config.Burst, config.UserAgent = 500, 1000, "moco-e2e"
	var err error
	if w.Kubernetes, err = kubernetes.NewForConfig(config); err != nil {
		return fmt.Errorf("making the Kubernetes client: %w", err)
	}
	if w.Moco, err = versioned.NewForConfig(config); err != nil {
		return fmt.Errorf("making the MOCO client: %w", err)
	}
	return nil
}

// repository finds the root of the checkout from the directory of the test.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the checkout: %w", err)
	}
	for range 8 {
		if _, err := os.Stat(filepath.Join(dir, "hack/local-cluster.sh")); err == nil {
			return dir, nil
		}
		dir = filepath.Dir(dir)
	}
	return "", errors.New("finding the checkout: no hack/local-cluster.sh above the working directory")
}

// findKubectl prefers the one on the PATH, then the one that the local cluster was made with.
func findKubectl() (string, error) {
	if path, err := exec.LookPath("kubectl"); err == nil {
		return path, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding kubectl: %w", err)
	}
	found, err := filepath.Glob(filepath.Join(cache, "moco/bin/kubernetes-*/kubectl"))
	if err != nil || len(found) == 0 {
		return "", errors.New("finding kubectl: it is neither on the PATH nor among the programs of the local cluster; run hack/local-cluster.sh up")
	}
	return found[len(found)-1], nil
}

// Kubectl runs kubectl and returns what it printed on both streams. The error holds that, too.
func (w *World) Kubectl(ctx context.Context, arguments ...string) (string, error) {
	return w.KubectlInput(ctx, "", arguments...)
}

// KubectlInput is Kubectl with something to read.
func (w *World) KubectlInput(ctx context.Context, input string, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, w.kubectl, arguments...)
	command.Env = append(os.Environ(), "KUBECONFIG="+w.kubeconfig)
	command.Stdin = strings.NewReader(input)
	out, err := command.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w: %s", strings.Join(arguments, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
