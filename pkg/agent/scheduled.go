// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/mysql"
)

// A replica marks every scheduled event that replication brings it REPLICA_SIDE_DISABLED, whatever the statement said
// (manual, "Replication of Invoked Features"). When it becomes the primary nothing tells it which of them were to run. So
// the open primary notes those that are not, in a table that is replicated, and the next primary enables the others. The
// table is made when there is something to note.
const (
	idleTable     = InternalSchema + ".disabled_events"
	makeIdleTable = "CREATE TABLE IF NOT EXISTS " + idleTable + ` (
 event_schema VARCHAR(64) NOT NULL, event_name VARCHAR(64) NOT NULL, PRIMARY KEY (event_schema, event_name)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`
)

// Values of information_schema.EVENTS.STATUS on which something is decided.
const (
	eventEnabled     = "ENABLED"
	eventReplicaSide = "REPLICA_SIDE_DISABLED"
)

// eventName names a scheduled event.
type eventName struct{ schema, name string }

func (n eventName) String() string {
	return mysql.Identifier(n.schema) + "." + mysql.Identifier(n.name)
}

// scheduled is a scheduled event as this mysqld has it.
type scheduled struct {
	eventName
	status string
	// foreign: the statement that determined the status was another server's. One that its owner has disabled for replicas
	// looks like a replicated one otherwise.
	foreign bool
}

// replicated says whether the status is only that of a replica.
func (e scheduled) replicated() bool { return e.status == eventReplicaSide && e.foreign }

// idle says whether the event is not to run here, nor on a later primary.
func (e scheduled) idle() bool { return e.status != eventEnabled && !e.replicated() }

// notesToChange compares the notes of a primary with its events. The note of an event whose status is only that of a
// replica stays: it is all that is known about it.
func notesToChange(events []scheduled, notes []eventName) (add, remove []eventName) {
	kept := map[eventName]bool{}
	for _, e := range events {
		kept[e.eventName] = e.status != eventEnabled
		if e.idle() && !slices.Contains(notes, e.eventName) {
			add = append(add, e.eventName)
		}
	}
	for _, note := range notes {
		if !kept[note] {
			remove = append(remove, note)
		}
	}
	return add, remove
}

// tendEvents lets the events of an open primary run that ran on the one before it, once after each opening, and keeps the
// notes from which the next one will know them.
func (in *instance) tendEvents(ctx context.Context) error {
	in.agent.mu.Lock()
	start, epoch, done := in.durable.OpenStart, in.durable.OpenEpoch, in.noted
	closed := in.server == nil || in.server.SuperReadOnly || in.closesLocked()
	in.agent.mu.Unlock()
	if closed {
		return nil
	}
	session, err := in.connect(ctx)
	if err != nil {
		return err
	}
	defer in.release(session)
	events, notes, err := readEvents(ctx, session)
	if err != nil {
		return err
	}
	if done.eventsStart != start || done.eventsEpoch != epoch {
		if err := in.takeOverEvents(ctx, session, events, notes); err != nil {
			return err
		}
		in.change(func() { in.noted.eventsStart, in.noted.eventsEpoch = start, epoch })
		return nil // the notes are looked at in the next round, which reads the events anew
	}
	add, remove := notesToChange(events, notes)
	return in.changeNotes(ctx, session, add, remove)
}

// readEvents reads all scheduled events, and the names of those that are noted.
func readEvents(ctx context.Context, session *mysql.Session) ([]scheduled, []eventName, error) {
	rows, err := session.Column(ctx, `SELECT JSON_ARRAY(event_schema, event_name, status, IF(originator = @@GLOBAL.server_id, '', 'foreign'))
 FROM information_schema.events`)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the scheduled events: %w", err)
	}
	var events []scheduled
	for _, row := range rows {
		var f [4]string
		if err := json.Unmarshal([]byte(row), &f); err != nil {
			return nil, nil, fmt.Errorf("reading the scheduled events: %w", err)
		}
		events = append(events, scheduled{eventName: eventName{f[0], f[1]}, status: f[2], foreign: f[3] != ""})
	}
	rows, err = session.Column(ctx, "SELECT JSON_ARRAY(event_schema, event_name) FROM "+idleTable)
	if number := mysql.Number(err); err != nil && number != mysql.ErrNoTable && number != mysql.ErrNoSchema {
		return nil, nil, fmt.Errorf("reading which events are disabled: %w", err)
	}
	var notes []eventName
	for _, row := range rows {
		var f [2]string
		if err := json.Unmarshal([]byte(row), &f); err != nil {
			return nil, nil, fmt.Errorf("reading which events are disabled: %w", err)
		}
		notes = append(notes, eventName{f[0], f[1]})
	}
	return events, notes, nil
}

// takeOverEvents gives every event that replication has disabled the status it had on the former primary. Every statement
// is logged, so replicas mark their events again. It can be cut short and begun again; an event that the server refuses to
// alter is left to its owner, and the others are not kept waiting.
func (in *instance) takeOverEvents(ctx context.Context, session *mysql.Session, events []scheduled, notes []eventName) error {
	logger := klog.FromContext(ctx)
	n := 0
	for _, e := range events {
		if !e.replicated() {
			continue
		}
		if err := in.canAcknowledge(ctx, session); err != nil {
			return err
		}
		verb := "ENABLE"
		if slices.Contains(notes, e.eventName) {
			verb = "DISABLE"
		}
		err := alterEvent(ctx, session, e.eventName, verb)
		if err != nil && mayPass(err) {
			return err
		}
		if err != nil {
			logger.Error(err, "A scheduled event stays disabled", "event", e.String())
			continue
		}
		n++
	}
	if n > 0 {
		logger.Info("Took over the scheduled events", "events", n)
	}
	return nil
}

// mayPass says whether a statement about an event may succeed later: only the server's own word on the event itself is
// final.
func mayPass(err error) bool {
	number := mysql.Number(err)
	return number == mysql.ErrLockWaitTimeout || number == mysql.ErrReadOnly || number == 0 && !errors.Is(err, errNotInCharset)
}

// errNotInCharset: the name of an event or of its definer does not exist in the character set of its definition.
var errNotInCharset = errors.New("its names do not exist in the character set it was defined in")

// alterEvent changes the status of one event that replication has disabled and nothing else of it. ALTER EVENT without
// DEFINER makes the session's account the definer, and whatever it says, the session's character sets become the event's.
// The status is read again, because its owner may have altered it just now.
func alterEvent(ctx context.Context, session *mysql.Session, name eventName, verb string) error {
	event, err := session.Record(ctx, `SELECT definer AS definer, sql_mode AS sql_mode, time_zone AS time_zone,
 character_set_client AS charset, collation_connection AS collation FROM information_schema.events
 WHERE event_schema = ? AND event_name = ? AND status = ? AND originator <> @@GLOBAL.server_id`, name.schema, name.name, eventReplicaSide)
	if err != nil {
		return fmt.Errorf("reading an event: %w", err)
	}
	if event == nil {
		return nil
	}
	at := max(0, strings.LastIndexByte(event["definer"], '@')) // a host has none
	definer := mysql.Identifier(event["definer"][:at]) + "@" + mysql.Identifier(strings.TrimPrefix(event["definer"][at:], "@"))
	statement, err := encoded(ctx, session, event["charset"], "ALTER DEFINER="+definer+" EVENT "+name.String()+" "+verb)
	if err != nil {
		return err
	}
	err = session.Exec(ctx, "SET SESSION sql_mode=?, time_zone=?, collation_connection=?, character_set_client=?",
		event["sql_mode"], event["time_zone"], event["collation"], event["charset"])
	if err == nil {
		err = session.Exec(ctx, statement)
	}
	// The session goes on with its own settings, whatever became of the statement.
	err = errors.Join(err, session.Exec(ctx, "SET SESSION sql_mode=DEFAULT, time_zone=DEFAULT, NAMES utf8mb4"))
	if err != nil {
		return fmt.Errorf("altering an event: %w", err)
	}
	return nil
}

// encoded has the server convert a statement to the character set in which it will read it.
func encoded(ctx context.Context, session *mysql.Session, charset, statement string) (string, error) {
	query := strings.ReplaceAll(`SELECT CAST(CONVERT(? USING cs) AS BINARY)
 WHERE CAST(CONVERT(CONVERT(? USING cs) USING utf8mb4) AS BINARY) = CAST(? AS BINARY)`, "cs", mysql.Identifier(charset))
	found, err := session.Column(ctx, query, statement, statement, statement)
	if err != nil {
		return "", fmt.Errorf("converting a statement to %s: %w", charset, err)
	}
	if len(found) != 1 {
		return "", errNotInCharset
	}
	return found[0], nil
}

// changeNotes brings the notes up to date. They wait for acknowledgements like all that is to survive the primary.
func (in *instance) changeNotes(ctx context.Context, session *mysql.Session, add, remove []eventName) error {
	if len(add)+len(remove) == 0 {
		return nil
	}
	if err := in.canAcknowledge(ctx, session); err != nil {
		return err
	}
	if len(add) > 0 {
		for _, statement := range []string{canarySchema, makeIdleTable} {
			if err := session.Exec(ctx, statement); err != nil {
				return fmt.Errorf("making the table of disabled events: %w", err)
			}
		}
	}
	for _, n := range add {
		if err := session.Exec(ctx, "INSERT IGNORE INTO "+idleTable+" VALUES (?, ?)", n.schema, n.name); err != nil {
			return fmt.Errorf("noting a disabled event: %w", err)
		}
	}
	for _, n := range remove {
		if err := session.Exec(ctx, "DELETE FROM "+idleTable+" WHERE event_schema = ? AND event_name = ?", n.schema, n.name); err != nil {
			return fmt.Errorf("forgetting a disabled event: %w", err)
		}
	}
	return nil
}
