// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/api"
)

// validateTimeout bounds mysqld --validate-config.
const validateTimeout = 20 * time.Second

// maxValidateOutput bounds the message of a validation, in bytes.
const maxValidateOutput = 4 << 10

// configure keeps what the instance needs on the volume. The maintainer applies what can be applied online.
func (in *instance) configure(_ context.Context, req *api.ConfigureRequest) (api.Reply, error) {
	if err := in.admitUnchecked(&req.Envelope); err != nil {
		return api.Reply{}, err
	}
	if err := checkConfigure(req); err != nil {
		return api.Reply{}, err
	}
	in.agent.mu.Lock()
	before := in.config
	in.agent.mu.Unlock()
	if before != nil && before.Hash == req.Hash {
		return in.unchanged(), nil
	}
	next := &settings{ConfigureRequest: *req, PreviousAdmin: previousAdmin(before, req)}
	next.Envelope = api.Envelope{}
	text, err := json.Marshal(next)
	if err != nil {
		return api.Reply{}, refuse(api.ErrorInvalid, "the configuration cannot be encoded: %v", err)
	}
	if err := replaceFile(in.cfg.own(fileConfig), text); err != nil {
		return api.Reply{}, refuse(api.ErrorUnavailable, "the configuration cannot be written: %v", err)
	}
	if err := in.layOut(next); err != nil {
		return api.Reply{}, refuse(api.ErrorUnavailable, "the configuration cannot be written: %v", err)
	}
	in.change(func() { in.config = next })
	return in.accepted()
}

// admitUnchecked is admit for the two commands that touch neither replication nor data: they are taken whatever the
// state counter, before there is a record, and from whoever holds no newer epoch.
func (in *instance) admitUnchecked(env *api.Envelope) error {
	d := in.snapshot()
	switch {
	case in.file == nil:
		return refuse(api.ErrorPrecondition, "the agent's state on the volume is unreadable")
	case env.Epoch < d.PromisedEpoch:
		return refuse(api.ErrorStaleEpoch, "epoch %d is below the promised %d", env.Epoch, d.PromisedEpoch)
	case env.Incarnation != "" && env.Incarnation != d.Incarnation:
		return refuse(api.ErrorWrongIncarnation, "the command is for incarnation %q, this is %q", env.Incarnation, d.Incarnation)
	case env.StateCounter != 0 && env.StateCounter != d.Counter:
		return refuse(api.ErrorStaleState, "the command was decided at state %d, this is %d", env.StateCounter, d.Counter)
	}
	return nil
}

// checkConfigure refuses what would leave the instance without its accounts or its TLS material.
func checkConfigure(req *api.ConfigureRequest) error {
	for _, spec := range Accounts {
		i := slices.IndexFunc(req.Accounts, func(a api.Account) bool { return a.Username == spec.Name })
		if i < 0 || req.Accounts[i].Password == "" {
			return refuse(api.ErrorInvalid, "the account %s has no password", spec.Name)
		}
		if strings.ContainsAny(req.Accounts[i].Password, "\n\r\x00") {
			return refuse(api.ErrorInvalid, "the password of %s holds a control character", spec.Name)
		}
	}
	if _, err := tls.X509KeyPair([]byte(req.Certificate), []byte(req.Key)); err != nil {
		return refuse(api.ErrorInvalid, "certificate and key do not fit")
	}
	if req.Hash == "" || req.CA == "" {
		return refuse(api.ErrorInvalid, "hash and CA are required")
	}
	return nil
}

// previousAdmin keeps the passwords that may still be in force somewhere.
func previousAdmin(before *settings, req *api.ConfigureRequest) []string {
	if before == nil {
		return nil
	}
	next := settings{ConfigureRequest: *req}
	present := next.password(AccountAdmin)
	var previous []string
	for _, password := range before.adminPasswords() {
		if password != present && !slices.Contains(previous, password) && len(previous) < maxPrevious {
			previous = append(previous, password)
		}
	}
	return previous
}

// initSQL is what mysqld runs at every start, before anybody can log in: it makes sure that the agent can. Data may bring
// along a password that this agent has never seen, for example a clone of a donor that lagged behind a rotation. It is
// local: the same change comes by replication, too.
//
// The replication accounts of members get their password here, too: a primary that is closed cannot change it online, and
// without its voters it never opens.
func initSQL(s *settings, members []string) string {
	admin, _ := accountSpec(AccountAdmin)
	script := []string{"SET sql_log_bin=0;"}
	set := func(user, host, password string) {
		script = append(script, fmt.Sprintf("ALTER USER IF EXISTS '%s'@'%s' IDENTIFIED BY '%s';", user, host, quote(password)))
	}
	for _, member := range members {
		set(api.ReplicationUser(member), "%", s.password(AccountReplicator))
	}
	for _, host := range admin.Hosts {
		set(admin.Name, host, s.password(AccountAdmin))
	}
	return strings.Join(script, "\n") + "\n"
}

// quote escapes a string for a literal in single quotes.
func quote(text string) string {
	return strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(text)
}

// validate asks mysqld whether it would accept an option file.
func (in *instance) validate(ctx context.Context, req *api.ValidateRequest) (api.Reply, error) {
	if err := in.admitUnchecked(&req.Envelope); err != nil {
		return api.Reply{}, err
	}
	draft, err := os.CreateTemp(in.cfg.ownDir(), "validate-*.cnf")
	if err != nil {
		return api.Reply{}, refuse(api.ErrorUnavailable, "the option file cannot be written: %v", err)
	}
	defer func() { _ = os.Remove(draft.Name()) }()
	_, err = draft.WriteString(req.MyCnf)
	if closeErr := draft.Close(); err != nil || closeErr != nil {
		return api.Reply{}, refuse(api.ErrorUnavailable, "the option file cannot be written: %v", err)
	}
	args := append(in.cfg.baseArguments(draft.Name(), in.cfg.dataDir()), "--validate-config", "--log-error-verbosity=1")
	exit, output, err := in.sup.Run(ctx, args, validateTimeout)
	if err != nil {
		return api.Reply{}, refuse(api.ErrorUnavailable, "mysqld could not be asked: %v", err)
	}
	reply := in.unchanged()
	if exit.Code != 0 {
		reply.Message = complaints(output, exit.Code)
	}
	return reply, nil
}

// complaints picks the error lines of mysqld's log, without time stamps, and without those that every failure brings.
func complaints(output string, code int) string {
	var found []string
	for line := range strings.Lines(output) {
		_, words, ok := strings.Cut(line, "[ERROR] ")
		if !ok {
			continue
		}
		for strings.HasPrefix(words, "[") {
			_, words, _ = strings.Cut(words, "] ")
		}
		if words = strings.TrimSpace(words); words != "" && words != "Aborting" {
			found = append(found, words)
		}
	}
	if len(found) == 0 {
		return fmt.Sprintf("mysqld --validate-config ended with code %d: %.500s", code, strings.TrimSpace(output))
	}
	message := strings.Join(found, "; ")
	return message[:min(len(message), maxValidateOutput)]
}
