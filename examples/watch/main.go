// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Command watch shows how a program works with MySQLClusters: it creates one with the typed client, or sets the replicas
// of one that exists, follows it through an informer, reads it from the lister, and ends when it is Healthy.
//
//	go run ./examples/watch -name demo -replicas 3 -image mysql:9.7.4
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	applyv1beta1 "github.com/moco-mysql/moco/pkg/generated/applyconfiguration/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/generated/clientset/versioned"
	"github.com/moco-mysql/moco/pkg/generated/informers/externalversions"
	listersv1beta1 "github.com/moco-mysql/moco/pkg/generated/listers/moco/v1beta1"
)

// options of the command.
type options struct {
	namespace, name, image, size string
	replicas                     int
	timeout                      time.Duration
}

func main() {
	o := options{}
	flag.StringVar(&o.namespace, "namespace", "default", "namespace of the cluster")
	flag.StringVar(&o.name, "name", "demo", "name of the cluster")
	flag.StringVar(&o.image, "image", "mysql:9.7.4", "image of mysqld, if the cluster is created")
	flag.StringVar(&o.size, "size", "1Gi", "size of each volume, if the cluster is created")
	flag.IntVar(&o.replicas, "replicas", 3, "instances, 1 to 9")
	flag.DurationVar(&o.timeout, "timeout", 10*time.Minute, "when to give up")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "watch:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, errors.New("the cluster did not become Healthy in time"))
	defer cancel()
	// Of the environment variable KUBECONFIG, ~/.kube/config, or, in a Pod, the service account.
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	client, err := versioned.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making the client: %w", err)
	}
	if err := createOrScale(ctx, client, o); err != nil {
		return err
	}
	return follow(ctx, client, o)
}

// createOrScale creates the cluster or sets the replicas of the one that exists by server-side apply, which leaves every
// other field to its owner.
func createOrScale(ctx context.Context, client versioned.Interface, o options) error {
	clusters := client.MocoV1beta1().MySQLClusters(o.namespace)
	size, err := resource.ParseQuantity(o.size)
	if err != nil {
		return fmt.Errorf("reading the size: %w", err)
	}
	cluster := &v1beta1.MySQLCluster{
		ObjectMeta: metav1.ObjectMeta{Name: o.name},
		Spec: v1beta1.MySQLClusterSpec{
			Topology: v1beta1.Replication,
			Replicas: int32(o.replicas),
			Image:    o.image,
			Storage:  v1beta1.Storage{Size: size},
		},
	}
	_, err = clusters.Create(ctx, cluster, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	wanted := applyv1beta1.MySQLCluster(o.name, o.namespace).
		WithSpec(applyv1beta1.MySQLClusterSpec().WithReplicas(int32(o.replicas)))
	_, err = clusters.Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: "moco-example", Force: true})
	return err
}

// follow prints every change of the phase until the cluster is Healthy.
func follow(ctx context.Context, client versioned.Interface, o options) error {
	factory := externalversions.NewSharedInformerFactoryWithOptions(client, 0,
		externalversions.WithNamespace(o.namespace),
		externalversions.WithTweakListOptions(func(options *metav1.ListOptions) {
			options.FieldSelector = fields.OneTermEqualSelector("metadata.name", o.name).String()
		}))
	clusters := factory.Moco().V1beta1().MySQLClusters()
	changed := make(chan struct{}, 1)
	notify := func(any) {
		select {
		case changed <- struct{}{}:
		default: // one is waiting already
		}
	}
	_, err := clusters.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: notify, UpdateFunc: func(_, new any) { notify(new) }, DeleteFunc: notify,
	})
	if err != nil {
		return fmt.Errorf("following the cluster: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer factory.Shutdown() // waits for the informer, which stop ends first
	defer stop()
	factory.StartWithContext(ctx)
	last := ""
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
		line, healthy, err := look(clusters.Lister(), o)
		if err != nil {
			return err
		}
		if line != last {
			fmt.Println(line)
			last = line
		}
		if healthy {
			return nil
		}
	}
}

// look describes what the lister holds. Objects from a lister are shared: they are read, never changed.
func look(lister listersv1beta1.MySQLClusterLister, o options) (line string, healthy bool, err error) {
	cluster, err := lister.MySQLClusters(o.namespace).Get(o.name)
	if err != nil {
		return "", false, fmt.Errorf("reading the cluster: %w", err)
	}
	status := cluster.Status
	if status.ObservedGeneration == 0 {
		return "the controller has not seen the cluster yet", false, nil
	}
	line = fmt.Sprintf("%-13s ready %s", status.Phase, status.Ready)
	if status.Decision != nil && status.Decision.WaitingFor != "" {
		line += ", waiting for " + status.Decision.WaitingFor
	}
	// A status that has not seen the last change of the spec says nothing about it.
	healthy = status.ObservedGeneration == cluster.Generation &&
		meta.IsStatusConditionTrue(status.Conditions, v1beta1.ConditionHealthy)
	return line, healthy, nil
}
