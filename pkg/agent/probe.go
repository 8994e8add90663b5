// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"net/http"

	"github.com/moco-mysql/moco/pkg/agent/api"
)

// Role is what GET /v1.0/getrole answers.
type Role string

const (
	// RolePrimary: opened for writes in the promised epoch or one before.
	RolePrimary Role = "primary"
	// RoleReplica: follows the primary with the right to acknowledge.
	RoleReplica Role = "replica"
	// RoleLearner: everything else, a stopped instance included.
	RoleLearner Role = "learner"
)

// verboseRole is the answer with ?verbose.
type verboseRole struct {
	Role         Role   `json:"role"`
	Epoch        int64  `json:"epoch"`
	GTIDExecuted string `json:"gtidExecuted,omitempty"`
	Received     string `json:"received,omitempty"`
}

// ProbeHandler serves the role and the probes, without secrets and over plain HTTP.
func (a *Agent) ProbeHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1.0/getrole", a.getRole)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", a.readyz)
	return mux
}

func (a *Agent) getRole(w http.ResponseWriter, r *http.Request) {
	role := a.Role()
	if !r.URL.Query().Has("verbose") {
		_, _ = fmt.Fprint(w, role)
		return
	}
	status, _ := a.Status()
	verbose := verboseRole{Role: role, Epoch: status.PromisedEpoch}
	if status.Server != nil {
		verbose.GTIDExecuted, verbose.Received = status.Server.GTIDExecuted, status.Server.Received
	}
	writeJSON(w, http.StatusOK, verbose)
}

// readyz answers 200 while the instance serves clients: an open primary, or a replica open for reads.
func (a *Agent) readyz(w http.ResponseWriter, _ *http.Request) {
	status, _ := a.Status()
	if reason := notReady(status); reason != "" {
		http.Error(w, reason, http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}

// notReady says why an instance does not serve, "" when it does.
func notReady(s api.Status) string {
	switch {
	case s.Mysqld != api.MysqldRunning:
		return "mysqld is not running"
	case s.Server == nil:
		return "mysqld does not answer"
	case s.Server.OfflineMode:
		return "the instance is closed to clients"
	case s.Terminating:
		return "the Pod is terminating"
	case s.Server.Channel != nil && !s.Server.Channel.ApplierRunning:
		return "replication is not running"
	}
	return ""
}

// Role of the instance as it sees itself.
func (a *Agent) Role() Role {
	a.mu.Lock()
	defer a.mu.Unlock()
	in := a.instance
	if in == nil || in.serverStartLocked() == "" || in.server == nil {
		return RoleLearner
	}
	switch d := in.durable; {
	case d.OpenStart == d.StartedID && d.OpenPrimary && !in.server.SuperReadOnly && !in.server.OfflineMode:
		return RolePrimary
	case in.server.Channel != nil && in.server.ReplicaSemiSync:
		return RoleReplica
	}
	return RoleLearner
}
