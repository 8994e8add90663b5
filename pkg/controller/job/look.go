// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package job

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// State is how far a Job is.
type State string

// The states.
const (
	Waiting State = "Waiting" // its container has not started
	Running State = "Running" // its container works
	Ended   State = "Ended"   // it has a result
)

// Look is what is seen of a Job.
type Look struct {
	State State
	// Result of a Job that ended; its own words, or why there are none.
	Result wire.JobResult
	// Confirmed: the Result is from a termination message, or no Pod can bring one any more. What is only missing in a cache
	// is looked up before it counts.
	Confirmed bool
	// Trouble says why a Job waits; "" when it is only starting.
	Trouble string
	// Pod is the name of the Pod, IP its address; "" without one.
	Pod, IP string
}

// overdue is how long after its last moment a Pod that is being deleted is waited for: its node may not answer.
const overdue = 30 * time.Second

// podPatience is how long a Job is expected to take to make its Pod.
const podPatience = 30 * time.Second

// See reads a Job and its Pods, of which others are left out. The Pods may come from a cache that is behind the Job.
func See(made *batchv1.Job, pods []*corev1.Pod, now time.Time) Look {
	own := slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool { return !metav1.IsControlledBy(p, made) })
	// The newest first: there is one, but for races in the controller of Jobs.
	slices.SortFunc(own, func(a, b *corev1.Pod) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) })
	var alive *corev1.Pod
	var failure *Look
	for _, pod := range own {
		look, ended := seePod(pod, now)
		switch {
		case ended && look.Result.Succeeded:
			return look
		case ended && failure == nil:
			failure = &look
		case !ended && alive == nil:
			alive = pod
		}
	}
	switch {
	case alive != nil:
		look, _ := seePod(alive, now)
		return look
	case failure != nil:
		return *failure
	case finished(made):
		return Look{State: Ended, Result: wire.JobResult{Reason: wire.ReasonInterrupted, Message: "its Pod is gone and left no result" + failureOf(made)}}
	case now.Sub(made.CreationTimestamp.Time) > podPatience:
		return Look{State: Waiting, Trouble: fmt.Sprintf("no Pod was made for it; the events of Job %s say why, for example a quota or a policy of the namespace", made.Name)}
	default:
		return Look{State: Waiting}
	}
}

// seePod reports whether the Pod ended, and how.
func seePod(pod *corev1.Pod, now time.Time) (Look, bool) {
	look := Look{State: Waiting, Pod: pod.Name, IP: pod.Status.PodIP, Confirmed: true}
	status := statusOf(pod)
	switch {
	case status != nil && status.State.Terminated != nil:
		look.State, look.Result = Ended, resultOf(pod, status.State.Terminated)
	case pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded:
		look.State, look.Result = Ended, wire.JobResult{Reason: wire.ReasonInterrupted, Message: "its Pod ended before it left a result" + endOf(pod)}
	case pod.DeletionTimestamp != nil && now.After(pod.DeletionTimestamp.Add(overdue)):
		look.State, look.Result = Ended, wire.JobResult{
			Reason: wire.ReasonInterrupted, Message: fmt.Sprintf("its Pod %s should have ended at %s; node %s does not say so", pod.Name, pod.DeletionTimestamp.UTC().Format(time.RFC3339), pod.Spec.NodeName),
		}
	case status != nil && status.State.Running != nil:
		look.State = Running
		return look, false
	default:
		look.Trouble = troubleOf(pod)
		return look, false
	}
	return look, true
}

func statusOf(pod *corev1.Pod) *corev1.ContainerStatus {
	for n := range pod.Status.ContainerStatuses {
		if pod.Status.ContainerStatuses[n].Name == Container {
			return &pod.Status.ContainerStatuses[n]
		}
	}
	return nil
}

// resultOf reads a termination message. Only a whole one from a program that ended well is a success.
func resultOf(pod *corev1.Pod, ended *corev1.ContainerStateTerminated) wire.JobResult {
	var result wire.JobResult
	decoder := json.NewDecoder(strings.NewReader(ended.Message))
	if err := decoder.Decode(&result); err != nil || decoder.More() || (!result.Succeeded && result.Reason == "") {
		return wire.JobResult{Reason: withoutResult(ended), Message: fmt.Sprintf("Pod %s left no result: it ended with exit code %d (%s)%s", pod.Name, ended.ExitCode, ended.Reason, endOf(pod))}
	}
	if result.Succeeded && ended.ExitCode != 0 {
		return wire.JobResult{Reason: wire.ReasonInternal, Message: fmt.Sprintf("Pod %s reported a success, but ended with exit code %d", pod.Name, ended.ExitCode)}
	}
	return result
}

// killed are the exit codes of a program that was killed, or told to stop and did not say more.
const (
	killedCode     = 137
	terminatedCode = 143
)

func withoutResult(ended *corev1.ContainerStateTerminated) wire.JobReason {
	if ended.ExitCode == killedCode || ended.ExitCode == terminatedCode {
		return wire.ReasonInterrupted
	}
	return wire.ReasonInternal
}

// endOf is what Kubernetes says of the end of a Pod, with a separator before it.
func endOf(pod *corev1.Pod) string {
	for _, s := range pod.Status.InitContainerStatuses {
		if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
			return fmt.Sprintf(": container %s ended with exit code %d (%s): %s", s.Name, t.ExitCode, t.Reason, t.Message)
		}
	}
	switch {
	case pod.Status.Message != "":
		return ": " + pod.Status.Message
	case pod.Status.Reason != "":
		return ": " + pod.Status.Reason
	default:
		return ""
	}
}

// finished reports whether no Pod of the Job will run any more.
func finished(made *batchv1.Job) bool { return finishedAt(made) != nil }

// finishedAt is when that was decided, or nil.
func finishedAt(made *batchv1.Job) *metav1.Time {
	for n := range made.Status.Conditions {
		c := &made.Status.Conditions[n]
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case batchv1.JobComplete, batchv1.JobFailed, batchv1.JobFailureTarget, batchv1.JobSuccessCriteriaMet:
			return &c.LastTransitionTime
		default:
		}
	}
	return nil
}

func failureOf(made *batchv1.Job) string {
	for _, c := range made.Status.Conditions {
		if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobFailed || c.Type == batchv1.JobFailureTarget) && c.Message != "" {
			return ": " + c.Message
		}
	}
	return ""
}

// troubleOf says why a Pod does not start.
func troubleOf(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return fmt.Sprintf("its Pod %s cannot be scheduled: %s", pod.Name, c.Message)
		}
	}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if w := s.State.Waiting; w != nil && w.Reason != "PodInitializing" && w.Reason != "ContainerCreating" {
			return fmt.Sprintf("container %s of its Pod %s waits (%s): %s", s.Name, pod.Name, w.Reason, w.Message)
		}
	}
	return ""
}
