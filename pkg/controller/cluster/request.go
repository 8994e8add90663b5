// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/topology"
)

const (
	// defaultDetectionSeconds and defaultAbsentSeconds stand in for fields that are not set, as their API defaults do.
	defaultDetectionSeconds = 2
	defaultAbsentSeconds    = 60
	// anyInstance in a switchover request leaves the choice to the controller.
	anyInstance = "any"
)

// detectionOf is how long the primary of a cluster must be silent before it is suspected.
func detectionOf(cluster *v1beta1.MySQLCluster) time.Duration {
	return time.Duration(cmp.Or(cluster.Spec.Failover.DetectionSeconds, defaultDetectionSeconds)) * time.Second
}

// desired is what the user asks for now.
func desired(w *world) topology.Desired {
	f, annotations := w.cluster.Spec.Failover, w.cluster.Annotations
	return topology.Desired{
		Replicas:     w.cluster.Spec.Replicas,
		Detection:    detectionOf(w.cluster),
		RemoveAbsent: time.Duration(cmp.Or(f.RemoveAbsentVoterSeconds, defaultAbsentSeconds)) * time.Second,
		Manual:       f.Mode == v1beta1.FailoverManual,
		Switchover:   asked(annotations[v1beta1.AnnotationSwitchover], w.lastRequest()),
		Replace:      w.replaceList(),
		Fenced:       listed(annotations[v1beta1.AnnotationFence]),
		AcceptLoss:   w.memory.acceptance.names(annotations[v1beta1.AnnotationAcceptLoss], w.cluster.Status.LastTransition),
		FromBackup:   fromBackup(w.cluster) != nil,
		Archived:     archiveOf(w.cluster) != nil,
	}
}

// listed splits names that are separated by commas.
func listed(text string) []string {
	var names []string
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// acceptance remembers which value of the annotation that accepts a loss was used up: it is for one failover. It is of
// use again when it was changed or removed.
type acceptance struct {
	judged bool
	used   string
}

// names returns the instances whose loss is accepted. last is the last transition that was published: a value that is
// there when this process begins, and names somebody whose loss was accepted in it, is the one that was used.
func (a *acceptance) names(value string, last *v1beta1.Transition) []string {
	names := listed(value)
	if !a.judged && last != nil && slices.ContainsFunc(names, func(name string) bool { return slices.Contains(last.AcceptedLoss, name) }) {
		a.used = value
	}
	a.judged = true
	if value == a.used {
		return nil
	}
	a.used = ""
	return names
}

// lastRequest is the last request for a switchover.
func (w *world) lastRequest() *v1beta1.RequestStatus {
	return w.requestFor(v1beta1.AnnotationSwitchover)
}

// requestFor is the last request made with an annotation, as this process knows it; the cache may not have seen it yet.
func (w *world) requestFor(annotation string) *v1beta1.RequestStatus {
	own := map[string]*v1beta1.RequestStatus{v1beta1.AnnotationSwitchover: w.memory.request, v1beta1.AnnotationReplace: w.memory.replaceRequest}
	return cmp.Or(own[annotation], published(&w.cluster.Status, annotation))
}

// published is what the status says of the last request made with an annotation, or nil.
func published(status *v1beta1.MySQLClusterStatus, annotation string) *v1beta1.RequestStatus {
	for n := range status.Requests {
		if status.Requests[n].Annotation == annotation {
			return &status.Requests[n]
		}
	}
	if last := status.LastRequest; last != nil && last.Annotation == annotation {
		return last
	}
	return nil
}

// requests are the last requests made with each annotation, and the newest of them.
func (w *world) requests() (all []v1beta1.RequestStatus, last *v1beta1.RequestStatus) {
	for _, annotation := range []string{v1beta1.AnnotationReplace, v1beta1.AnnotationSwitchover} {
		request := w.requestFor(annotation)
		if request == nil {
			continue
		}
		if all = append(all, *request); last == nil || !request.At.Before(&last.At) {
			last = request
		}
	}
	return all, last
}

// requestNews reports whether a request moved on since the status was written.
func (w *world) requestNews() bool {
	for _, annotation := range []string{v1beta1.AnnotationReplace, v1beta1.AnnotationSwitchover} {
		if request := w.requestFor(annotation); !reflect.DeepEqual(request, published(&w.cluster.Status, annotation)) {
			return true
		}
	}
	return false
}

// lastTransition is the last transition as this process knows it.
func (w *world) lastTransition() *v1beta1.Transition {
	return cmp.Or(w.memory.history.last, w.cluster.Status.LastTransition)
}

// targetOfRequest is the Pod that the value of a request names, "" for any.
func targetOfRequest(value string) string {
	target, _, _ := strings.Cut(value, "=")
	if target == anyInstance {
		return ""
	}
	return target
}

// asked returns the switchover that is to be done, or nil: every value is tried once.
func asked(value string, last *v1beta1.RequestStatus) *topology.Switchover {
	if value == "" || (last != nil && last.Value == value && last.State != v1beta1.RequestRunning) {
		return nil
	}
	return &topology.Switchover{Target: targetOfRequest(value)}
}

// inquiry is what the state of a switchover request is judged by.
type inquiry struct {
	// value of the annotation now.
	value string
	last  *v1beta1.RequestStatus
	// began is the opened epoch from which the request that runs hands over; nil when that is not known.
	began  *v1beta1.OpenedEpoch
	record *topology.Record
	now    time.Time
}

// state makes the new state of the request with a value.
func (q inquiry) state(value string, state v1beta1.RequestState, message string) *v1beta1.RequestStatus {
	return &v1beta1.RequestStatus{
		Annotation: v1beta1.AnnotationSwitchover, Value: value, State: state, Message: bounded(message), At: metav1.NewTime(q.now),
	}
}

// ended returns the end of a request if the record shows one, or nil.
func (q inquiry) ended() *v1beta1.RequestStatus {
	r := q.record
	if r == nil || r.Phase != v1beta1.RecordOpened {
		return nil
	}
	opened := r.LastOpened
	if q.last == nil || q.last.State != v1beta1.RequestRunning {
		if target := targetOfRequest(q.value); asked(q.value, q.last) != nil && target == opened.Primary.Name {
			return q.state(q.value, v1beta1.RequestSucceeded, target+" is the primary")
		}
		return nil
	}
	value, target := q.last.Value, targetOfRequest(q.last.Value)
	wanted := target == "" || target == opened.Primary.Name
	switch {
	case q.began == nil && target != "" && wanted:
		return q.state(value, v1beta1.RequestSucceeded, fmt.Sprintf("%s is the primary of epoch %d", target, opened.Epoch))
	case q.began == nil && target == "":
		return q.state(value, v1beta1.RequestRefused,
			fmt.Sprintf("the controller was restarted meanwhile; %s is the primary: ask again with another token if it is not the one you want", opened.Primary.Name))
	case q.began != nil && opened.Epoch > q.began.Epoch && wanted && opened.Primary.Incarnation != q.began.Primary.Incarnation:
		return q.state(value, v1beta1.RequestSucceeded, fmt.Sprintf("%s handed over to %s in epoch %d", q.began.Primary.Name, opened.Primary.Name, opened.Epoch))
	case q.began != nil && opened.Epoch > q.began.Epoch:
		return q.state(value, v1beta1.RequestRefused, fmt.Sprintf("it came to another end: %s is the primary of epoch %d", opened.Primary.Name, opened.Epoch))
	case value != q.value:
		return q.state(value, v1beta1.RequestRefused, "the annotation was changed or removed before anything was done")
	}
	return nil
}

// planned returns what a plan makes of the request that is asked for, or nil.
func (q inquiry) planned(plan topology.Plan) *v1beta1.RequestStatus {
	acts := plan.Decision.Rule == topology.RuleSwitchover || plan.Decision.Rule == topology.RuleFailover
	switch {
	case asked(q.value, q.last) == nil:
		return nil
	case plan.Refused != "":
		return q.state(q.value, v1beta1.RequestRefused, plan.Refused)
	case acts && len(plan.Actions) > 0 && (q.last == nil || q.last.Value != q.value):
		return q.state(q.value, v1beta1.RequestRunning, plan.Decision.Reason)
	}
	return nil
}

func (c *Controller) inquiry(w *world) inquiry {
	last, r := w.lastRequest(), w.seen.Record
	if w.memory.began == nil && last != nil && last.State == v1beta1.RequestRunning && r != nil && r.Phase != v1beta1.RecordOpened {
		w.memory.began = r.LastOpened // begun by a controller before this one, which left before anything was opened
	}
	return inquiry{
		value: w.cluster.Annotations[v1beta1.AnnotationSwitchover], last: w.lastRequest(), began: w.memory.began, record: w.seen.Record, now: c.now(),
	}
}

// noteRequest remembers and announces the new state of a request; nil is no news.
func (c *Controller) noteRequest(w *world, next *v1beta1.RequestStatus) {
	if next == nil {
		return
	}
	w.memory.request, w.memory.began = next, nil
	if r := w.seen.Record; r != nil && next.State == v1beta1.RequestRunning {
		w.memory.began = r.LastOpened
	}
	c.announceRequest(w, next)
}

// announceRequest makes an event of the new state of a request.
func (c *Controller) announceRequest(w *world, next *v1beta1.RequestStatus) {
	kind := corev1.EventTypeNormal
	if next.State == v1beta1.RequestRefused {
		kind = corev1.EventTypeWarning
	}
	c.events.Event(w.cluster, kind, "Request"+string(next.State), bounded(fmt.Sprintf("%s: %s: %s", next.Annotation, next.Value, next.Message)))
}
