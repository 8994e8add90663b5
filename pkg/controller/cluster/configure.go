// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/render"
	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
	"github.com/moco-mysql/moco/pkg/pki"
)

const (
	// validateDeadline bounds `mysqld --validate-config`.
	validateDeadline = 15 * time.Second
	// configureDeadline bounds a configure command, which writes and syncs a few files.
	configureDeadline = 10 * time.Second
)

// leaf is the certificate of one Pod, signed for its address.
type leaf struct {
	pair *pki.KeyPair
	ip   string
	ca   string
}

// configure hands every instance what it should hold, where that differs. One instance that fails does not keep the
// others from theirs. It returns the names of those that were handed something.
func (c *Controller) configure(ctx context.Context, w *world) (configured map[string]bool, err error) {
	if w.settings.options == nil || w.memory.credentials == nil {
		return nil, nil
	}
	configured = map[string]bool{}
	c.forgetLeaves(w)
	var failures []error
	for n := range w.seen.Instances {
		i := &w.seen.Instances[n]
		pod := w.pods[i.Ordinal]
		if i.Agent == nil || i.Stopping || pod == nil || i.Agent.Volume == api.VolumeWaiting || i.Agent.Volume == api.VolumeUnreadable {
			continue
		}
		sent, err := c.configureOne(ctx, w, pod, i.Ordinal, i.Agent)
		if sent {
			configured[i.Name] = true
		}
		failures = append(failures, err)
	}
	return configured, errors.Join(failures...)
}

// configureOne hands one instance what it should hold, unless it does.
func (c *Controller) configureOne(ctx context.Context, w *world, pod *corev1.Pod, ordinal int32, status *api.Status) (sent bool, err error) {
	version, err := mycnf.ParseVersion(status.ImageVersion)
	if err != nil || !version.AtLeast(mycnf.MinVersion) {
		return false, nil //nolint:nilerr // the image is judged by verdict; this instance is not of use
	}
	signed, err := c.leafOf(w, pod, ordinal)
	if err != nil {
		return false, err
	}
	text := renderOptions(w.cluster, ordinal, version, w.settings.options)
	if w.memory.archive == nil && status.ConfigHash != "" {
		return false, nil // its archive would end only because a Secret could not be read just now
	}
	archive, err := w.memory.archive.fingerprint()
	if err != nil {
		return false, err
	}
	rest := digest(w.memory.credentials.fingerprint(), signed.ip, signed.pair.Certificate.NotAfter.UTC().Format("2006-01"), archive)
	hash := configHash(digest(text), rest)
	if status.ConfigHash == hash {
		return false, nil
	}
	client := c.fleet.client(pod.UID)
	if client == nil {
		return false, nil
	}
	request := &api.ConfigureRequest{
		Envelope: api.Envelope{Incarnation: status.Incarnation, DeadlineMillis: configureDeadline.Milliseconds()},
		MyCnf:    text, CA: string(w.memory.credentials.bundlePEM), Certificate: string(signed.pair.CertPEM), Key: string(signed.pair.KeyPEM),
		Accounts: w.memory.credentials.accounts, Application: w.memory.credentials.application, Archive: w.memory.archive.handed(), Hash: hash,
	}
	request.Epoch, request.Claim = status.PromisedEpoch, status.PromisedClaim
	if _, err := client.Command(ctx, api.CommandConfigure, request); err != nil {
		return false, fmt.Errorf("configuring %s: %w", pod.Name, err)
	}
	klog.FromContext(ctx).V(2).Info("Configured an instance", "cluster", klog.KObj(w.cluster), "instance", pod.Name)
	return true, nil
}

// leafOf returns the certificate of a Pod for mysqld. It is made anew for another address, another CA, and after two
// thirds of its life.
func (c *Controller) leafOf(w *world, pod *corev1.Pod, ordinal int32) (leaf, error) {
	found, ok := w.memory.leaves[pod.UID]
	authority := string(w.memory.credentials.ca.CertPEM())
	if ok && found.ip == pod.Status.PodIP && found.ca == authority && !pki.RenewalDue(found.pair.Certificate, c.now()) {
		return found, nil
	}
	pair, err := w.memory.credentials.ca.Leaf(c.now(), pki.LeafRequest{
		CommonName: pod.Name, DNSNames: serverNames(w.cluster, ordinal, c.config.ClusterDomain),
		IPs: []net.IP{net.ParseIP(pod.Status.PodIP), net.IPv4(127, 0, 0, 1)}, Usage: pki.UsagePeer, Validity: leafValidity,
	})
	if err != nil {
		return leaf{}, fmt.Errorf("signing the certificate of %s: %w", pod.Name, err)
	}
	made := leaf{pair: pair, ip: pod.Status.PodIP, ca: authority}
	w.memory.leaves[pod.UID] = made
	return made, nil
}

// serverNames are the names under which clients reach the mysqld of an instance: its own and those of the Services.
func serverNames(cluster *v1beta1.MySQLCluster, ordinal int32, domain string) []string {
	names := []string{"localhost", render.PodHost(cluster, ordinal), render.PodHost(cluster, ordinal) + "." + domain}
	for _, service := range []string{render.PrimaryServiceName(cluster), render.ReplicaServiceName(cluster)} {
		host := render.ServiceHost(cluster, service)
		names = append(names, service, service+"."+cluster.Namespace, host, host+"."+domain)
	}
	return names
}

// forgetLeaves drops the certificates of Pods that are gone.
func (c *Controller) forgetLeaves(w *world) {
	alive := map[types.UID]bool{}
	for _, pod := range w.pods {
		alive[pod.UID] = true
	}
	for uid := range w.memory.leaves {
		if !alive[uid] {
			delete(w.memory.leaves, uid)
		}
	}
}
