// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package job

import (
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/backup/wire"
)

var noon = time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC)

// podOf is a Pod of the Job, changed.
func podOf(made *batchv1.Job, change func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: made.Namespace, Name: made.Name + "-x", OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(made, batchv1.SchemeGroupVersion.WithKind("Job"))},
	}}
	change(pod)
	return pod
}

func state(s corev1.ContainerState) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: Container, State: s}}
	}
}

func ended(code int32, message string) func(*corev1.Pod) {
	return state(corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: message, Reason: "Error"}})
}

func TestOnlyATerminationMessageIsAResult(t *testing.T) {
	running := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "b-1", UID: "job-uid", CreationTimestamp: metav1.NewTime(noon.Add(-time.Second))}}
	barren := running.DeepCopy()
	barren.CreationTimestamp = metav1.NewTime(noon.Add(-time.Minute))
	other := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "b-2", UID: "other-uid"}}
	in := func(condition batchv1.JobConditionType) *batchv1.Job {
		made := running.DeepCopy()
		made.Status.Conditions = []batchv1.JobCondition{{Type: condition, Status: corev1.ConditionTrue, Message: "so says the Job"}}
		return made
	}
	const success = `{"succeeded":true,"location":"x"}`
	cases := map[string]struct {
		job       *batchv1.Job
		pods      []func(*corev1.Pod)
		foreign   bool
		state     State
		succeeded bool
		reason    wire.JobReason
		says      string
	}{
		"no Pod yet":             {job: running, state: Waiting},
		"no Pod for a long time": {job: barren, state: Waiting, says: "events of Job b-1"},
		"a Pod that cannot be scheduled": {job: running, pods: []func(*corev1.Pod){func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "no node"}}
		}}, state: Waiting, says: "no node"},
		"an image that is not there":          {job: running, pods: []func(*corev1.Pod){state(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "gone"}})}, state: Waiting, says: "ImagePullBackOff"},
		"it runs":                             {job: running, pods: []func(*corev1.Pod){state(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})}, state: Running},
		"a success":                           {job: running, pods: []func(*corev1.Pod){ended(0, success)}, state: Ended, succeeded: true},
		"a success of another Job":            {job: running, pods: []func(*corev1.Pod){ended(0, success)}, foreign: true, state: Waiting},
		"a success but a bad exit code":       {job: running, pods: []func(*corev1.Pod){ended(1, success)}, state: Ended, reason: wire.ReasonInternal, says: "exit code 1"},
		"a success followed by something":     {job: running, pods: []func(*corev1.Pod){ended(0, success+success)}, state: Ended, reason: wire.ReasonInternal},
		"a success cut short":                 {job: running, pods: []func(*corev1.Pod){ended(0, success[:20])}, state: Ended, reason: wire.ReasonInternal, says: "left no result"},
		"a good exit code but no message":     {job: in(batchv1.JobComplete), pods: []func(*corev1.Pod){ended(0, "")}, state: Ended, reason: wire.ReasonInternal},
		"an empty object":                     {job: running, pods: []func(*corev1.Pod){ended(0, "{}")}, state: Ended, reason: wire.ReasonInternal},
		"null":                                {job: running, pods: []func(*corev1.Pod){ended(0, "null")}, state: Ended, reason: wire.ReasonInternal},
		"a failure in its own words":          {job: running, pods: []func(*corev1.Pod){ended(1, `{"succeeded":false,"reason":"StoreFailed","message":"no bucket"}`)}, state: Ended, reason: wire.ReasonStore, says: "no bucket"},
		"killed":                              {job: running, pods: []func(*corev1.Pod){ended(137, "")}, state: Ended, reason: wire.ReasonInterrupted},
		"evicted before it started":           {job: running, pods: []func(*corev1.Pod){func(p *corev1.Pod) { p.Status.Phase, p.Status.Message = corev1.PodFailed, "node is low on disk" }}, state: Ended, reason: wire.ReasonInterrupted, says: "low on disk"},
		"the Job is complete, the Pod gone":   {job: in(batchv1.JobComplete), state: Ended, reason: wire.ReasonInterrupted},
		"the Job failed, the Pod gone":        {job: in(batchv1.JobFailureTarget), state: Ended, reason: wire.ReasonInterrupted, says: "so says the Job"},
		"the Job failed, the Pod still stops": {job: in(batchv1.JobFailureTarget), pods: []func(*corev1.Pod){state(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})}, state: Running},
		"a Pod that should have ended a while ago": {job: running, pods: []func(*corev1.Pod){func(p *corev1.Pod) {
			state(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})(p)
			p.DeletionTimestamp = new(metav1.NewTime(noon.Add(-time.Minute)))
		}}, state: Ended, reason: wire.ReasonInterrupted},
		"one of two Pods succeeded": {job: running, pods: []func(*corev1.Pod){ended(137, ""), ended(0, success)}, state: Ended, succeeded: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			owner := c.job
			if c.foreign {
				owner = other
			}
			var pods []*corev1.Pod
			for _, change := range c.pods {
				pods = append(pods, podOf(owner, change))
			}
			look := See(c.job, pods, noon)
			if look.State != c.state || look.Result.Succeeded != c.succeeded || look.Result.Reason != c.reason {
				t.Errorf("seen as %+v", look)
			}
			if text := look.Trouble + look.Result.Message; !strings.Contains(text, c.says) {
				t.Errorf("%q does not say %q", text, c.says)
			}
		})
	}
}

func TestProgressTellsRateAndRest(t *testing.T) {
	cases := map[string]struct {
		from      wire.JobProgress
		rate      int64
		remaining int64
	}{
		"half way":               {wire.JobProgress{BytesDone: 500, BytesTotal: 1000, StageSeconds: 5}, 100, 5},
		"nothing done":           {wire.JobProgress{BytesTotal: 1000, StageSeconds: 5}, 0, -1},
		"no total":               {wire.JobProgress{BytesDone: 500, StageSeconds: 5}, 100, -1},
		"more than was meant":    {wire.JobProgress{BytesDone: 2000, BytesTotal: 1000, StageSeconds: 5}, 400, -1},
		"it has only just begun": {wire.JobProgress{BytesDone: 1, BytesTotal: 1000}, 0, -1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := Progress(c.from)
			remaining := int64(-1)
			if got.RemainingSeconds != nil {
				remaining = *got.RemainingSeconds
			}
			if got.BytesPerSecond != c.rate || remaining != c.remaining {
				t.Errorf("%d bytes/s, %d s remain; want %d and %d", got.BytesPerSecond, remaining, c.rate, c.remaining)
			}
		})
	}
}
