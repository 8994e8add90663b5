// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
)

// options are the flags.
type options struct {
	kubeconfig string
	namespace  string
	namespaces []string
	workers    int
	qps        float32
	burst      int

	agentImage, exporterImage, clusterDomain string

	metricsAddress, healthAddress, debugAddress string

	leaderElect                                 bool
	leaseDuration, renewDeadline, retryInterval time.Duration
}

func defaults() *options {
	return &options{
		namespace: os.Getenv("POD_NAMESPACE"), workers: 8, qps: 50, burst: 100, clusterDomain: "cluster.local",
		metricsAddress: ":8080", healthAddress: ":8081", debugAddress: "127.0.0.1:6060",
		leaderElect: true, leaseDuration: 5 * time.Second, renewDeadline: 3 * time.Second, retryInterval: time.Second,
	}
}

func (o *options) addTo(flags *pflag.FlagSet) {
	flags.StringVar(&o.kubeconfig, "kubeconfig", o.kubeconfig, "path of a kubeconfig; empty inside a Pod")
	flags.StringVar(&o.namespace, "namespace", o.namespace, "namespace of the controller itself; default from POD_NAMESPACE")
	flags.StringSliceVar(&o.namespaces, "namespaces", o.namespaces, "namespaces to look after, separated by commas; empty for all")
	flags.IntVar(&o.workers, "workers", o.workers, "clusters that are synced at the same time, 1 to 64")
	flags.Float32Var(&o.qps, "kube-api-qps", o.qps, "requests per second to the API server, on average")
	flags.IntVar(&o.burst, "kube-api-burst", o.burst, "requests to the API server that may come at once")
	flags.StringVar(&o.agentImage, "agent-image", o.agentImage, "image of the agent in MySQL Pods")
	flags.StringVar(&o.exporterImage, "exporter-image", o.exporterImage, "image of the Prometheus exporter in MySQL Pods")
	flags.StringVar(&o.clusterDomain, "cluster-domain", o.clusterDomain, "DNS domain of the Kubernetes cluster")
	flags.StringVar(&o.metricsAddress, "metrics-address", o.metricsAddress, "address of /metrics")
	flags.StringVar(&o.healthAddress, "health-address", o.healthAddress, "address of /healthz and /readyz")
	flags.StringVar(&o.debugAddress, "debug-address", o.debugAddress, "loopback address of /debug; empty for none")
	flags.BoolVar(&o.leaderElect, "leader-elect", o.leaderElect, "work only while holding the lease")
	flags.DurationVar(&o.leaseDuration, "leader-elect-lease-duration", o.leaseDuration, "how long a lease counts")
	flags.DurationVar(&o.renewDeadline, "leader-elect-renew-deadline", o.renewDeadline, "how long the leader tries to renew it")
	flags.DurationVar(&o.retryInterval, "leader-elect-retry-period", o.retryInterval, "time between two attempts")
	logging := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(logging)
	flags.AddGoFlag(logging.Lookup("v"))
	flags.AddGoFlag(logging.Lookup("vmodule"))
}

func (o *options) validate() error {
	var problems []error
	if o.namespace == "" {
		problems = append(problems, errors.New("--namespace: the namespace of the controller is not known; set the flag or POD_NAMESPACE"))
	}
	for name, value := range map[string]string{"--agent-image": o.agentImage, "--exporter-image": o.exporterImage} {
		if value == "" {
			problems = append(problems, fmt.Errorf("%s: an image is needed", name))
		}
	}
	if o.debugAddress != "" && !strings.HasPrefix(o.debugAddress, "127.0.0.1:") && !strings.HasPrefix(o.debugAddress, "[::1]:") {
		problems = append(problems, fmt.Errorf("--debug-address: %s is not on the loopback interface", o.debugAddress))
	}
	return errors.Join(problems...)
}
