// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/admission"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/mysql"
)

// cloneLook is how often the progress of a clone is read.
const cloneLook = 500 * time.Millisecond

// small settings of the mysqld that only receives a clone.
var recipient = []setting{
	{"disable_log_bin", "ON"},
	{"log_replica_updates", "OFF"},
	{"innodb_buffer_pool_size", "67108864"},
	{"innodb_redo_log_capacity", "67108864"},
}

// clone begins to fill the volume from a donor. The data get a new incarnation, which has promised what the volume has.
func (in *instance) clone(_ context.Context, req *api.CloneRequest) (api.Reply, error) {
	if in.taskRuns(api.TaskClone) && req.StateCounter == in.snapshot().Counter {
		return in.unchanged(), nil
	}
	if err := in.admit(&req.Envelope, nil); err != nil {
		return api.Reply{}, err
	}
	d := in.snapshot()
	if admission.Votes(d.Record, d.Incarnation) {
		return api.Reply{}, refuse(api.ErrorPrecondition, "the record names this incarnation as a voter")
	}
	if req.Donor.Host == "" || req.Donor.User == "" {
		return api.Reply{}, refuse(api.ErrorInvalid, "the donor has no address or no user")
	}
	donor := req.Donor
	task := api.Task{Kind: api.TaskClone, Donor: donor.Name}
	if err := in.begin(task, func(ctx context.Context) error { return in.fillFrom(ctx, donor) }); err != nil {
		return api.Reply{}, err
	}
	return in.accepted()
}

// fillFrom clones with a private mysqld on a data directory of its own, so that the clone's directory becomes the
// instance's only once it is complete.
func (in *instance) fillFrom(ctx context.Context, donor api.Source) error {
	err := in.save(func(d *state.Durable) {
		d.Incarnation, d.AckCount, d.FreshClone, d.ChannelHash, d.ServerSeed = newID(), 0, true, "", ""
		d.Counter++
		d.LedStart, d.CleanStart, d.OpenStart, d.OpenEpoch, d.OpenPrimary = "", "", "", 0, false
		vouch(d)
		d.Diverged, d.DivergedKept, d.Rewound = "", "", ""
	})
	if err != nil {
		return err
	}
	in.stage("preparing the recipient")
	scratch, err := in.makeScratch(ctx)
	if err != nil {
		return err
	}
	session, id, err := in.startPrivate(ctx, scratch, options(recipient)...)
	if err != nil {
		return errors.Join(err, in.removeScratch()) // it may be what an earlier attempt left; the next one makes its own
	}
	defer session.Close()
	in.stage("copying from " + donor.Name)
	if err := in.receive(ctx, session, donor); err != nil {
		return err
	}
	in.stage("ending the recipient")
	if err := in.sup.Kill(ctx, id); err != nil {
		return fmt.Errorf("ending the recipient: %w", err)
	}
	return in.finishClone()
}

// makeScratch makes the recipient's own data directory, or finds the one of an earlier attempt with the same options: a
// donor that was busy must not cost a second initialisation.
func (in *instance) makeScratch(ctx context.Context) (string, error) {
	scratch := filepath.Join(in.cfg.DataRoot, scratchPrefix+"-"+in.optionsHash())
	if there, err := exists(scratch); err != nil || there {
		return scratch, err
	}
	if err := in.removeScratch(); err != nil {
		return "", err
	}
	draft := scratch + ".partial"
	if err := in.makeDataDirectory(ctx, draft, options(recipient)...); err != nil {
		return "", err
	}
	if err := os.Rename(draft, scratch); err != nil {
		return "", fmt.Errorf("completing the recipient: %w", err)
	}
	return scratch, nil
}

// finishClone removes what is not the new instance's own: the recipient's directory, and a server UUID.
func (in *instance) finishClone() error {
	err := os.Remove(filepath.Join(in.cfg.partialDir(), "auto.cnf"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the server UUID: %w", err)
	}
	return in.removeScratch()
}

// removeScratch removes every recipient's directory.
func (in *instance) removeScratch() error {
	dirs, err := filepath.Glob(filepath.Join(in.cfg.DataRoot, scratchPrefix+"*"))
	if err != nil {
		return fmt.Errorf("listing recipients: %w", err)
	}
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("removing a recipient: %w", err)
		}
	}
	return nil
}

// optionsHash tells one option file from another.
func (in *instance) optionsHash() string {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	sum := sha256.Sum256([]byte(in.config.MyCnf))
	return hex.EncodeToString(sum[:8])
}

// receive runs CLONE INSTANCE and shows how far it is. A donor that stopped sending fails it after CloneStall.
func (in *instance) receive(ctx context.Context, session *mysql.Session, donor api.Source) error {
	host := donor.Host
	if strings.Contains(host, ":") {
		return fmt.Errorf("cloning from %s: the clone plugin takes no IPv6 address", donor.Name)
	}
	for _, set := range []struct{ name, value string }{
		{"clone_valid_donor_list", host + ":" + strconv.Itoa(int(donor.Port))},
		{"clone_ssl_ca", in.cfg.own(fileCA)},
		{"clone_ssl_cert", in.cfg.own(fileCertificate)},
		{"clone_ssl_key", in.cfg.own(fileKey)},
	} {
		if err := session.Exec(ctx, "SET GLOBAL "+set.name+"=?", set.value); err != nil {
			return fmt.Errorf("preparing the clone: %w", err)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		in.watchClone(ctx, cancel)
	}()
	err := session.Exec(ctx, "CLONE INSTANCE FROM ?@?:"+strconv.Itoa(int(donor.Port))+" IDENTIFIED BY ? DATA DIRECTORY=? REQUIRE SSL",
		donor.User, host, donor.Password, in.cfg.partialDir())
	cause := context.Cause(ctx)
	cancel(nil)
	<-watched
	switch {
	case err == nil:
		in.showProgress(in.ctx, session)
		return nil
	case cause != nil:
		return fmt.Errorf("cloning from %s: %w", donor.Name, cause)
	case donorIsBusy(err):
		in.progress(func(t *api.Task) { t.Busy = true })
	}
	return fmt.Errorf("cloning from %s: %w", donor.Name, err)
}

// donorIsBusy says whether the donor refused because it serves another clone. The recipient's error is always 3862; the
// donor's own number is only in its text.
func donorIsBusy(err error) bool {
	return mysql.Number(err) == mysql.ErrTooManyClones ||
		mysql.Number(err) == mysql.ErrCloneDonor && strings.Contains(mysql.Message(err), ": "+strconv.Itoa(int(mysql.ErrTooManyClones))+" :")
}

// errCloneStalled is the cause of ending a clone that does not move.
var errCloneStalled = errors.New("no data came any more")

// watchClone shows the progress of a clone until ctx ends, and ends it when it does not move.
func (in *instance) watchClone(ctx context.Context, stop context.CancelCauseFunc) {
	tick := time.NewTicker(cloneLook)
	defer tick.Stop()
	session, err := in.privateEndpoint(AccountRoot, "").Connect(ctx)
	if err != nil {
		return // the clone goes on without being watched; it fails by itself when the connection does
	}
	defer session.Close()
	var last cloneProgress
	moved := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, err := readCloneProgress(ctx, session)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && now != last:
			last, moved = now, time.Now()
			in.progress(func(t *api.Task) { t.BytesDone, t.BytesTotal = now.done, now.total })
		case time.Since(moved) > in.cfg.CloneStall:
			stop(errCloneStalled)
			return
		}
	}
}

// showProgress shows how far the clone has come, if that can be read.
func (in *instance) showProgress(ctx context.Context, session *mysql.Session) {
	if now, err := readCloneProgress(ctx, session); err == nil {
		in.progress(func(t *api.Task) { t.BytesDone, t.BytesTotal = now.done, now.total })
	}
}

// cloneProgress is a sum over the stages of a clone: bytes, and how many stages have begun or ended.
type cloneProgress struct{ done, total, stages int64 }

func readCloneProgress(ctx context.Context, session *mysql.Session) (cloneProgress, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var p cloneProgress
	err := session.Row(ctx, []any{&p.done, &p.total, &p.stages},
		"SELECT COALESCE(SUM(data),0), COALESCE(SUM(estimate),0), COUNT(begin_time)+COUNT(end_time) FROM performance_schema.clone_progress")
	return p, err
}
