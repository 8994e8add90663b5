// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/restore"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql"
)

// reserved are the schemas of the server, into and out of which nothing is restored.
var reserved = notDumped

// restoreUID and attemptID are what a UID of a restore and the id of an attempt look like: names of schemas are made from them.
var (
	restoreUID = regexp.MustCompile(`^[0-9a-f]{8}[0-9a-f-]*$`)
	attemptID  = regexp.MustCompile(`^[0-9a-z]{1,16}$`)
)

// chosen is a table of the backup that is brought into a cluster.
type chosen struct {
	*table
	// into is the schema it goes to, draft the schema it is loaded into.
	into, draft string
	// uncertain: mysqldump prints some of its values in another precision, so its checksum need not be the same.
	uncertain bool
}

// target is its quoted name in the cluster, loaded the one under which it is loaded.
func (c *chosen) target() string { return mysql.Identifier(c.into) + "." + mysql.Identifier(c.name) }

func (c *chosen) loaded() string { return mysql.Identifier(c.draft) + "." + mysql.Identifier(c.name) }

// clients are the programs that a restore of tables needs from the image of the cluster.
type clients struct{ dump, load string }

func (j *job) findClients() (clients, error) {
	dump, dumpErr := exec.LookPath(j.cfg.Mysqldump)
	load, loadErr := exec.LookPath(j.cfg.Mysql)
	if dumpErr != nil || loadErr != nil {
		return clients{}, fail(wire.ReasonRefused, errors.New("the image of the cluster has no mysqldump or no mysql, which bring the tables into it"))
	}
	return clients{dump, load}, nil
}

// restoreTables boots a backup in private, replays the archive on it, and brings tables of it into a cluster that runs. What
// is there is not touched before all of them are loaded; then one statement puts them into their places.
func (j *job) restoreTables(ctx context.Context) error {
	if err := j.validTables(); err != nil {
		return err
	}
	programs, err := j.findClients()
	if err != nil {
		return err
	}
	into, err := j.reach(ctx)
	if err != nil {
		return err
	}
	defer into.close()
	if j.result.Tables, err = into.placed(ctx); err != nil || j.result.Tables > 0 {
		j.result.Message = "an earlier attempt put the tables into their places"
		return err
	}
	if err := j.foresee(ctx, into); err != nil {
		return err
	}
	server, err := j.bootRestored(ctx)
	if err != nil {
		return err
	}
	defer server.kill()
	return j.bring(ctx, programs, server, into)
}

// validTables refuses what the API server lets nobody ask for.
func (j *job) validTables() error {
	t := j.in.Tables
	if t == nil || j.in.Restore == nil || !restoreUID.MatchString(t.Restore) || !attemptID.MatchString(j.in.Attempt) || len(t.Names) == 0 {
		return fail(wire.ReasonRefused, errors.New("it is not said which tables are to be restored"))
	}
	for _, name := range append([]string{t.Into}, t.Names...) {
		schema, _, _ := strings.Cut(name, ".")
		if slices.ContainsFunc(reserved, func(r string) bool { return strings.EqualFold(r, schema) }) {
			return fail(wire.ReasonRefused, fmt.Errorf("schema %s belongs to the server and is not restored", mysql.Identifier(schema)))
		}
	}
	return nil
}

// foresee refuses, before anything is fetched, what is plain already: a table that is named exists.
func (j *job) foresee(ctx context.Context, into *recipient) error {
	var named []*chosen
	for _, name := range j.in.Tables.Names {
		if schema, bare, whole := strings.Cut(name, "."); whole {
			named = append(named, &chosen{table: &table{schema: schema, name: bare}, into: j.schemaFor(schema)})
		}
	}
	_, err := into.occupied(ctx, named)
	return err
}

func (j *job) schemaFor(schema string) string {
	if j.in.Tables.Into != "" {
		return j.in.Tables.Into
	}
	return schema
}

// bootRestored restores the backup to its point and starts a server on it that nobody can write to.
func (j *job) bootRestored(ctx context.Context) (*private, error) {
	if err := j.prepare(); err != nil {
		return nil, err
	}
	version, err := j.version(ctx)
	if err != nil {
		return nil, err
	}
	r, err := restore.Open(ctx, restore.Config{
		Source: *j.in.Restore, Version: version, MyCnf: j.in.MyCnf, Dir: j.cfg.work("data"), Scratch: j.cfg.work("fetched"), Report: j.mirror,
	})
	if err != nil {
		return nil, trialError(err)
	}
	defer func() { _ = r.Close() }()
	if err := j.replayForTables(ctx, r); err != nil {
		return nil, trialError(err)
	}
	return j.boot(ctx, j.cfg.work("data"))
}

// replayForTables fetches and replays, and ends the server cleanly.
func (j *job) replayForTables(ctx context.Context, r *restore.Restore) error {
	if err := r.Fetch(ctx); err != nil {
		return j.orFull(err)
	}
	server := &trialServer{job: j}
	defer server.abandon()
	session, done, err := r.Replay(ctx, server)
	if err != nil {
		return j.orFull(err)
	}
	session.Close()
	j.result.ReplayedTransactions, j.result.RecoveredUpTo = done.Transactions, done.RecoveredUpTo
	j.result.Location = manifest.Key(j.in.Restore.Cluster, done.Backup)
	return server.Stop(ctx)
}

// bring loads the chosen tables and puts them into their places.
func (j *job) bring(ctx context.Context, programs clients, server *private, into *recipient) error {
	session, err := server.endpoint.Connect(ctx)
	if err != nil {
		return err
	}
	defer session.Close()
	tables, err := j.chooseTables(ctx, session)
	if err != nil {
		return err
	}
	if _, err := into.occupied(ctx, tables); err != nil {
		return err
	}
	lost, err := triggersOf(ctx, session, tables)
	if err != nil {
		return err
	}
	if err := j.checkChosen(ctx, server, tables); err != nil {
		return err
	}
	if err := into.begin(ctx, session, tables); err != nil {
		return err
	}
	if err := j.load(ctx, programs, into, tables); err != nil {
		into.giveUp(ctx)
		return err
	}
	j.stage(ctx, "putting the tables into their places")
	if err := into.swap(ctx, tables); err != nil {
		return err
	}
	j.result.Tables = int64(len(tables))
	if len(lost) > 0 {
		j.result.Message = "not restored with the tables: " + list(lost)
	}
	return nil
}

// checkChosen has the server look through every chosen table.
func (j *job) checkChosen(ctx context.Context, server *private, tables []*chosen) error {
	j.stage(ctx, "checking the tables in the backup")
	var plain []*table
	for _, c := range tables {
		plain = append(plain, c.table)
	}
	for _, examine := range []examination{check, count} {
		if err := j.eachTable(ctx, server, plain, examine); err != nil {
			return fmt.Errorf("checking the tables in the backup: %w", err)
		}
	}
	return nil
}

// chooseTables finds what was asked for in the restored server.
func (j *job) chooseTables(ctx context.Context, session *mysql.Session) ([]*chosen, error) {
	there, err := tablesOf(ctx, session)
	if err != nil {
		return nil, err
	}
	tables, err := selectTables(j.in.Tables, schemaOf(j.in.Tables.Restore)+"_"+j.in.Attempt, there)
	if err != nil {
		return nil, fail(wire.ReasonRefused, err)
	}
	if err := loneReferences(ctx, session, tables); err != nil {
		return nil, err
	}
	for _, c := range tables {
		floats, err := session.Column(ctx, "SELECT column_name FROM information_schema.columns"+
			" WHERE table_schema=? AND table_name=? AND data_type IN ('float','double')", c.schema, c.name)
		if err != nil {
			return nil, fmt.Errorf("reading the columns of %s: %w", c.quoted(), err)
		}
		c.uncertain = len(floats) > 0
	}
	return tables, nil
}

// maxChosen bounds how many tables one restore brings: they change places in one statement.
const maxChosen = 1000

// selectTables returns the tables that were asked for, of those that are there, in the order in which they are there. Names
// of the schemas they are loaded into begin with prefix: what is left of an earlier attempt and still writes must not meet
// this one.
func selectTables(asked *wire.Tables, prefix string, there []*table) ([]*chosen, error) {
	drafts := map[string]string{}
	found := map[string]bool{}
	targets := map[string]*chosen{}
	var tables []*chosen
	for _, t := range there {
		name := ""
		for _, n := range asked.Names {
			if n == t.schema || n == t.schema+"."+t.name {
				name, found[n] = n, true
			}
		}
		if name == "" {
			continue
		}
		if drafts[t.schema] == "" {
			drafts[t.schema] = fmt.Sprintf("%s_%d", prefix, len(drafts))
		}
		c := &chosen{table: t, into: asked.Into, draft: drafts[t.schema]}
		if c.into == "" {
			c.into = t.schema
		}
		if other := targets[c.target()]; other != nil {
			return nil, fmt.Errorf("the tables %s and %s cannot both become %s", other.quoted(), c.quoted(), c.target())
		}
		targets[c.target()] = c
		tables = append(tables, c)
	}
	for _, n := range asked.Names {
		if !found[n] {
			return nil, fmt.Errorf("at that point the backup holds no table %q", n)
		}
	}
	if len(tables) > maxChosen {
		return nil, fmt.Errorf("these are %d tables; one restore brings at most %d", len(tables), maxChosen)
	}
	return tables, nil
}

// loneReferences refuses tables whose foreign keys lead to a table that is not restored with them: the key would stay behind
// where the table was loaded.
func loneReferences(ctx context.Context, session *mysql.Session, tables []*chosen) error {
	together := map[string]bool{}
	for _, c := range tables {
		together[c.quoted()] = true
	}
	for _, c := range tables {
		parents, err := session.Column(ctx, "SELECT "+quotedPair("unique_constraint_schema", "referenced_table_name")+
			" FROM information_schema.referential_constraints WHERE constraint_schema=? AND table_name=?", c.schema, c.name)
		if err != nil {
			return fmt.Errorf("reading the foreign keys of %s: %w", c.quoted(), err)
		}
		for _, parent := range parents {
			if !together[parent] || !strings.HasPrefix(parent, mysql.Identifier(c.schema)+".") {
				return fail(wire.ReasonRefused, fmt.Errorf("table %s refers to %s by a foreign key; both must be restored together, from one schema", c.quoted(), parent))
			}
		}
	}
	return nil
}

// quotedPair is an expression of SQL: schema and table, as Identifier quotes them.
func quotedPair(schema, name string) string {
	return fmt.Sprintf("CONCAT('`', REPLACE(%s, '`', '``'), '`.`', REPLACE(%s, '`', '``'), '`')", schema, name)
}

// triggersOf names the triggers of the tables, which are not brought along.
func triggersOf(ctx context.Context, session *mysql.Session, tables []*chosen) ([]string, error) {
	var names []string
	for _, c := range tables {
		found, err := session.Column(ctx, "SELECT CONCAT('trigger ', trigger_name) FROM information_schema.triggers"+
			" WHERE event_object_schema=? AND event_object_table=?", c.schema, c.name)
		if err != nil {
			return nil, fmt.Errorf("reading the triggers of %s: %w", c.quoted(), err)
		}
		names = append(names, found...)
	}
	return names, nil
}

// maxListed is how many names go into a message.
const maxListed = 10

func list(names []string) string {
	if len(names) > maxListed {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxListed], ", "), len(names)-maxListed)
	}
	return strings.Join(names, ", ")
}

// dropRestore removes what the attempts of a restore made in the cluster beside the tables.
func (j *job) dropRestore(ctx context.Context) error {
	if j.in.Tables == nil || !restoreUID.MatchString(j.in.Tables.Restore) {
		return fail(wire.ReasonRefused, errors.New("it is not said which restore it was"))
	}
	into, err := j.reach(ctx)
	if err != nil {
		return err
	}
	defer into.close()
	if j.result.Tables, err = into.placed(ctx); err != nil {
		return err
	}
	return into.clear(ctx)
}
