// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package job

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

const (
	// LabelOwnerUID on Jobs and their Pods is the UID of the object they work for. Names can be too long for a label, and
	// can be given again.
	LabelOwnerUID = "moco.dev/backup-uid"
	// LabelOperation on Jobs and their Pods is what they do.
	LabelOperation = "moco.dev/operation"
	// annotationNumber on a Job is the number of the attempt, from 1 on.
	annotationNumber = "moco.dev/attempt"
	// annotationSubject on a Job is what it works on, for whoever made it.
	annotationSubject = "moco.dev/subject"
	// annotationOwner on a Job and its Pod is kind and name of the object they work for, whole.
	annotationOwner = "moco.dev/owner"
	// Container does the work in a Pod.
	Container = "backup"

	// maxName of a Job: its Pods carry it as a label.
	maxName = 63
)

// Selector selects, in all namespaces, the Jobs made here, and their Pods; informers are filtered by it.
func Selector() string { return v1beta1.LabelBackup }

// Name is prefix-suffix; what would be too long for a Job is cut, and told apart by a hash.
func Name(prefix, suffix string) string {
	return shortened(prefix, maxName-len(suffix)-1) + "-" + suffix
}

// hashDigits are 32 bits, enough to tell apart the few names of a namespace that begin alike.
const hashDigits = 8

func shortened(name string, most int) string {
	if len(name) <= most {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return strings.TrimRight(name[:most-hashDigits-1], ".-") + "-" + hex.EncodeToString(sum[:])[:hashDigits]
}

// labelsOf are on a Job and on its Pod.
func labelsOf(owner metav1.Object, operation wire.Operation) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name":       "moco-backup",
		"app.kubernetes.io/managed-by": "moco",
		v1beta1.LabelBackup:            shortened(owner.GetName(), maxName),
		LabelOwnerUID:                  string(owner.GetUID()),
		LabelOperation:                 string(operation),
	}
}

// OwnerName is the name of the object of a kind that a Job or its Pod works for; false when it is of another kind.
func OwnerName(object metav1.Object, kind string) (string, bool) {
	return strings.CutPrefix(object.GetAnnotations()[annotationOwner], kind+"/")
}

// OperationOf a Job or its Pod.
func OperationOf(object metav1.Object) wire.Operation {
	return wire.Operation(object.GetLabels()[LabelOperation])
}

// Number of the attempt that a Job is; 0 when it does not say.
func Number(object metav1.Object) int32 {
	n, err := strconv.ParseInt(object.GetAnnotations()[annotationNumber], 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}

// Subject is what a Job was said to work on when it was made.
func Subject(object metav1.Object) string { return object.GetAnnotations()[annotationSubject] }
