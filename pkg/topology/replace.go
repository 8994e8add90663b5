// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"slices"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// Replacement is the wish that an instance goes on with other data: its volume, or the node its Pod runs on, is given up.
type Replacement struct {
	// Instance is the name of the Pod.
	Instance string
	// Why in words; never "".
	Why string
}

// replaced says why an instance is to be replaced, "" when it is not.
func replaced(want Desired, name string) string {
	for _, r := range want.Replace {
		if r.Instance == name {
			return r.Why
		}
	}
	return ""
}

// CannotReplace says why an instance must not be replaced although a person asks for it. waitingFor is not "" while that
// cannot be told: only an open primary knows who is connected to it.
func CannotReplace(want Desired, seen Observed, name string) (refused, waitingFor string) {
	i, r := seen.find(name), seen.Record
	switch {
	case i == nil || i.Ordinal >= want.Replicas:
		return fmt.Sprintf("there is no instance %s", name), ""
	case want.Replicas == 1:
		return fmt.Sprintf("%s is the only instance: there would be nobody to clone a new volume from", name), ""
	case r == nil || r.LastOpened == nil || r.Primary == nil || r.Phase != v1beta1.RecordOpened:
		return "", "an opened epoch"
	case r.Primary.Name == name || i.is(*r.Primary):
		return fmt.Sprintf("%s is the primary; ask for a switchover first (annotation %s)", name, v1beta1.AnnotationSwitchover), ""
	}
	p := seen.holder(*r.Primary)
	if p == nil || !p.running() || p.closed() {
		return "", "an open primary"
	}
	left := without(r.LastOpened.Voters, i)
	next := Configuration{Voters: left, AckCount: AckCount(len(left))}
	switch able := connected(seen, next, p); {
	case len(left) == len(r.LastOpened.Voters):
		return "", "" // nobody counts on it
	case len(left) < minVoters:
		return fmt.Sprintf("only %d instances vote, and %s alone could acknowledge nothing meanwhile; raise spec.replicas first, and ask again when three vote",
			len(r.LastOpened.Voters), p.Name), ""
	case able < next.AckCount:
		return fmt.Sprintf("%d of the other replicas would have to acknowledge writes, %d are connected", next.AckCount, able), ""
	}
	return "", ""
}

// without returns the voters but for an instance: neither what is known under its name nor the data it holds.
func without(voters []Member, i *Instance) []Member {
	return slices.DeleteFunc(slices.Clone(voters), func(m Member) bool { return m.Name == i.Name || i.is(m) })
}

// Removable reports whether the Pod and the volume of an instance may be given up: no configuration counts on its data any
// more, so nothing that may still run with it can make an acknowledgement complete or lead. If not, it says what that waits
// for. It must be asked on the record as it is stored.
func Removable(seen Observed, name string) (ok bool, waitingFor string) {
	i, r := seen.find(name), seen.Record
	if i == nil {
		i = &Instance{Name: name}
	}
	switch {
	case r == nil || r.LastOpened == nil || r.Primary == nil || r.Phase != v1beta1.RecordOpened:
		return false, "an opened epoch"
	case r.Primary.Name == name || i.is(*r.Primary):
		return false, "another primary"
	}
	for _, c := range configurations(r) {
		if len(without(c.Voters, i)) < len(c.Voters) {
			return false, "an epoch that is opened without it"
		}
	}
	return true, ""
}

// Lost reports whether the volume of an instance that never ran on another may be given up although its data still votes:
// with two voters the other one alone can be left only together with the one that comes instead. The data cannot be
// reached by anybody, and whoever may still run with it keeps its vote until then, and loses it with the change.
func Lost(seen Observed, name string) bool {
	i, r := seen.find(name), seen.Record
	if i == nil || i.Agent != nil || r == nil || r.LastOpened == nil || r.Phase != v1beta1.RecordOpened || len(r.LastOpened.Voters) != minVoters {
		return false
	}
	p := seen.holder(*r.Primary)
	return p != nil && p.Name != name && r.Primary.Name != name && p.running() && !p.closed()
}
