// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package children

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/render"
)

const kindPod = "Pod"

// CreatePod creates the Pod. One that is there already and belongs to the cluster is as good; the caller's cache was
// behind. A *Terminating or *Foreign says that the name is taken.
func (c *Control) CreatePod(ctx context.Context, cluster *v1beta1.MySQLCluster, pod *corev1.Pod) (*corev1.Pod, error) {
	client := c.Client.CoreV1().Pods(cluster.Namespace)
	made, err := client.Create(ctx, pod, createOptions())
	if err == nil {
		logWritten(ctx, "Created", kindPod, pod)
		return made, nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("creating %s %s: %w", kindPod, pod.Name, err)
	}
	live, err := client.Get(ctx, pod.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", kindPod, pod.Name, err)
	}
	if err := belongs(cluster, kindPod, live); err != nil {
		return nil, err
	}
	return live, nil
}

// CheckPod tells whether a Pod that was observed is the cluster's own and stays: nil, *Foreign or *Terminating.
func CheckPod(cluster *v1beta1.MySQLCluster, pod *corev1.Pod) error {
	return belongs(cluster, kindPod, pod)
}

// Marks are what the record says of an instance, on its Pod.
type Marks struct {
	// Role is v1beta1.RoleLabelPrimary or RoleLabelReplica, or "" for an instance that must not serve.
	Role string
	// Voter tells whether the PodDisruptionBudget counts the Pod.
	Voter bool
	// Epoch of the record; it never goes back.
	Epoch int64
}

// MarkPod writes the marks on the Pod that was observed, and on no other of its name. The error is a *StaleEpoch when the
// Pod was marked under a higher epoch. NotFound and Conflict mean that the Pod is gone or another has its name.
func (c *Control) MarkPod(ctx context.Context, cluster *v1beta1.MySQLCluster, observed *corev1.Pod, marks Marks) (*corev1.Pod, error) {
	client := c.Client.CoreV1().Pods(cluster.Namespace)
	pod := observed
	var conflict error
	for range attempts {
		marked, err := c.markPod(ctx, cluster, pod, marks)
		if !apierrors.IsConflict(err) {
			return marked, err
		}
		conflict = err
		if pod, err = client.Get(ctx, observed.Name, metav1.GetOptions{}); err != nil {
			return nil, fmt.Errorf("reading %s %s: %w", kindPod, observed.Name, err)
		}
		if pod.UID != observed.UID {
			break
		}
	}
	return nil, conflict
}

func (c *Control) markPod(ctx context.Context, cluster *v1beta1.MySQLCluster, pod *corev1.Pod, marks Marks) (*corev1.Pod, error) {
	if err := belongs(cluster, kindPod, pod); err != nil && !isTerminating(err) {
		return nil, err
	}
	labels, annotations := marks.wanted()
	desired := &metav1.ObjectMeta{Annotations: annotations}
	if err := notAhead(kindPod, pod, desired); err != nil {
		return nil, err
	}
	if within(annotations, pod.Annotations) && marked(pod, labels) {
		return pod, nil
	}
	patch, err := mergePatch(pod, map[string]any{"labels": labels, "annotations": annotations}, nil)
	if err != nil {
		return nil, err
	}
	patched, err := c.Client.CoreV1().Pods(cluster.Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, patchOptions())
	if err != nil {
		return nil, fmt.Errorf("marking %s %s: %w", kindPod, pod.Name, err)
	}
	logWritten(ctx, "Marked", kindPod, pod)
	return patched, nil
}

// wanted are the labels, nil for those that must not be there, and the annotations.
func (m Marks) wanted() (labels map[string]*string, annotations map[string]string) {
	labels = map[string]*string{v1beta1.LabelRole: nil, v1beta1.LabelVoter: nil}
	if m.Role != "" {
		labels[v1beta1.LabelRole] = &m.Role
	}
	if m.Voter {
		yes := "true"
		labels[v1beta1.LabelVoter] = &yes
	}
	return labels, map[string]string{v1beta1.AnnotationEpoch: strconv.FormatInt(m.Epoch, 10)}
}

func marked(pod *corev1.Pod, labels map[string]*string) bool {
	for key, want := range labels {
		got, has := pod.Labels[key]
		if has != (want != nil) || has && got != *want {
			return false
		}
	}
	return true
}

func isTerminating(err error) bool {
	var terminating *Terminating
	return errors.As(err, &terminating)
}

// DeletePod deletes the Pod that was observed, and no other of its name, with its own grace period. It is no error when
// that is gone.
func (c *Control) DeletePod(ctx context.Context, cluster *v1beta1.MySQLCluster, observed *corev1.Pod) error {
	if err := belongs(cluster, kindPod, observed); err != nil {
		if isTerminating(err) {
			return nil
		}
		return err
	}
	if err := c.Client.CoreV1().Pods(cluster.Namespace).Delete(ctx, observed.Name, byUID(observed)); !gone(err) {
		return fmt.Errorf("deleting %s %s: %w", kindPod, observed.Name, err)
	}
	logWritten(ctx, "Deleted", kindPod, observed)
	return nil
}

// CheckPodByDryRun asks the API server whether it would take the Pod, under a generated name so that one that exists does
// not matter. The error is render.Problems when the Pod is invalid; everything else (a quota, a policy, no connection)
// says nothing about the spec and may pass.
func (c *Control) CheckPodByDryRun(ctx context.Context, pod *corev1.Pod) error {
	trial := pod.DeepCopy()
	trial.Name, trial.GenerateName = "", pod.Name+"-dry-run-"
	body, err := json.Marshal(trial)
	if err != nil {
		return fmt.Errorf("encoding %s %s: %w", kindPod, pod.Name, err)
	}
	err = c.DryRun(ctx, pod.Namespace, body)
	if apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) {
		return invalidPod(err)
	}
	if err != nil {
		return fmt.Errorf("trying %s %s: %w", kindPod, pod.Name, err)
	}
	return nil
}

// maxCauses bounds how many of the API server's complaints are passed on.
const maxCauses = 8

func invalidPod(err error) render.Problems {
	const remedy = "correct spec.podTemplate, spec.image or spec.resources, from which this field of the Pod is made"
	var problems render.Problems
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Details != nil {
		causes := status.Status().Details.Causes
		for _, cause := range causes[:min(len(causes), maxCauses)] {
			if cause.Field != "" {
				problems = append(problems, render.Problem{Field: "Pod " + cause.Field, Reason: cause.Message, Remedy: remedy})
			}
		}
	}
	if len(problems) == 0 {
		problems = render.Problems{{Field: "spec.podTemplate", Reason: err.Error(), Remedy: remedy}}
	}
	return problems
}

// dryRunWith sends the Pod as JSON, so that the server sees every field, even one that it does not know.
func dryRunWith(client kubernetes.Interface) func(context.Context, string, []byte) error {
	return func(ctx context.Context, namespace string, pod []byte) error {
		options := &metav1.CreateOptions{
			DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict, FieldManager: FieldManager,
		}
		return client.CoreV1().RESTClient().Post().Namespace(namespace).Resource("pods").
			VersionedParams(options, scheme.ParameterCodec).
			SetHeader("Content-Type", "application/json").
			Body(pod).Do(ctx).Error()
	}
}
