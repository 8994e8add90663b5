// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql"
)

const (
	// cloneLook is how often the progress of a clone is read.
	cloneLook = 500 * time.Millisecond
	// askTimeout bounds a question to an instance or to a private server that has nothing else to do.
	askTimeout = 10 * time.Second
	// initialUser is the account that initialisation makes; it comes through the socket and has no password.
	initialUser = "root"
	// leastFree is the free space below which a failure is blamed on the volume.
	leastFree = 32 << 20
	// errCloneSpace is ER_CLONE_DISK_SPACE, of the recipient.
	errCloneSpace uint16 = 3873
)

// errCloneStalled ends a clone that does not move.
var errCloneStalled = errors.New("no data came any more")

// donorFacts are what a donor says about itself before it is copied.
type donorFacts struct{ uuid, version string }

// copyInstance fills the directory data with a clone of the first donor that can be cloned. The recipient works in a directory of
// its own, which is removed.
func (j *job) copyInstance(ctx context.Context) (donorFacts, error) {
	if len(j.in.Donors) == 0 {
		return donorFacts{}, fail(wire.ReasonDonor, errors.New("there is no instance to copy from"))
	}
	ca, err := j.writeCA()
	if err != nil {
		return donorFacts{}, err
	}
	j.stage(ctx, "preparing the recipient")
	if err := j.makeRecipient(ctx); err != nil {
		return donorFacts{}, err
	}
	facts, err := j.tryDonors(ctx, ca)
	if err != nil {
		return donorFacts{}, err
	}
	if err := os.RemoveAll(j.cfg.work("recipient")); err != nil {
		return donorFacts{}, fmt.Errorf("removing the recipient: %w", err)
	}
	return facts, nil
}

// tryDonors tries one donor after the other. As long as one of them was only busy, waiting can help.
func (j *job) tryDonors(ctx context.Context, ca string) (donorFacts, error) {
	var failed []error
	reason := wire.ReasonDonor
	for _, donor := range j.in.Donors {
		j.cfg.Progress.from(donor.Name)
		j.stage(ctx, "copying from "+donor.Name)
		facts, err := j.cloneFrom(ctx, donor, ca)
		switch {
		case err == nil:
			j.result.Donor = donor.Name
			return facts, nil
		case ctx.Err() != nil:
			return donorFacts{}, err
		case mysql.Number(err) == errCloneSpace || j.volumeIsFull():
			return donorFacts{}, fail(wire.ReasonSpace, fmt.Errorf("the work volume is too small: %w", err))
		case donorIsBusy(err):
			reason = wire.ReasonDonorBusy
		}
		klog.FromContext(ctx).Info("Donor cannot be copied", "donor", donor.Name, "err", err)
		failed = append(failed, err)
	}
	return donorFacts{}, fail(reason, errors.Join(failed...))
}

// volumeIsFull says whether there is next to no space left on the work volume.
func (j *job) volumeIsFull() bool {
	var fs unix.Statfs_t
	if err := unix.Statfs(j.cfg.WorkDir, &fs); err != nil {
		return false
	}
	return int64(fs.Bavail)*fs.Bsize < leastFree //nolint:gosec // no file system has 2^63 bytes
}

// makeRecipient initialises the data directory of the server that receives a clone.
func (j *job) makeRecipient(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, initialiseTimeout)
	defer cancel()
	p, err := launch(j.cfg.Mysqld, j.cfg.arguments(j.cfg.work("recipient"), "--initialize-insecure"), nil)
	if err == nil {
		err = p.wait(ctx)
	}
	if err != nil {
		return fmt.Errorf("initialising the recipient: %w", j.orFull(err))
	}
	return nil
}

// orFull blames a failure on the volume when that is full.
func (j *job) orFull(err error) error {
	if err != nil && j.volumeIsFull() {
		return fail(wire.ReasonSpace, fmt.Errorf("the work volume is full: %w", err))
	}
	return err
}

// cloneFrom clones one donor into the directory data.
func (j *job) cloneFrom(ctx context.Context, donor wire.Donor, ca string) (facts donorFacts, err error) {
	if strings.Contains(donor.Address, ":") {
		return facts, fmt.Errorf("copying from %s: the clone plugin takes no IPv6 address", donor.Name)
	}
	if err := os.RemoveAll(j.cfg.work("data")); err != nil {
		return facts, fmt.Errorf("removing a half-made copy: %w", err)
	}
	if facts, err = j.askDonor(ctx, donor); err != nil {
		return facts, fmt.Errorf("copying from %s: %w", donor.Name, err)
	}
	server, err := j.startPrivate(ctx, j.cfg.arguments(j.cfg.work("recipient")), initialUser, "")
	if err != nil {
		return facts, fmt.Errorf("starting the recipient: %w", err)
	}
	defer server.kill() // its data are of no more use
	if err := j.receive(ctx, server, donor, ca); err != nil {
		return facts, fmt.Errorf("copying from %s: %w", donor.Name, err)
	}
	return facts, nil
}

// askDonor asks a donor who it is.
func (j *job) askDonor(ctx context.Context, donor wire.Donor) (facts donorFacts, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	session, err := j.connect(ctx, net.JoinHostPort(donor.Address, strconv.Itoa(int(donor.Port))))
	if err != nil {
		return facts, err
	}
	defer session.Close()
	err = session.Row(ctx, []any{&facts.uuid, &facts.version}, "SELECT @@GLOBAL.server_uuid, @@GLOBAL.version")
	if err != nil {
		return facts, fmt.Errorf("asking who it is: %w", err)
	}
	return facts, nil
}

// connect opens a session on an instance, over TLS, verified by the certificates of the cluster.
func (j *job) connect(ctx context.Context, address string) (*mysql.Session, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fail(wire.ReasonRefused, fmt.Errorf("reading an address: %w", err))
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(j.in.CA)) {
		return nil, fail(wire.ReasonRefused, errors.New("the certificates of the cluster are missing"))
	}
	endpoint := mysql.Endpoint{
		Network: "tcp", Address: address, User: j.in.User, Passwords: []string{j.in.Password},
		Encrypt: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: host},
	}
	return endpoint.Connect(ctx)
}

// receive runs CLONE INSTANCE and shows how far it is. A donor that stopped sending fails it.
func (j *job) receive(ctx context.Context, server *private, donor wire.Donor, ca string) error {
	session, err := server.endpoint.Connect(ctx)
	if err != nil {
		return err
	}
	defer session.Close()
	port := strconv.Itoa(int(donor.Port))
	for _, set := range []struct{ name, value string }{
		{"clone_valid_donor_list", donor.Address + ":" + port}, {"clone_ssl_ca", ca},
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
		j.watchClone(ctx, server.endpoint, cancel)
	}()
	err = session.Exec(ctx, "CLONE INSTANCE FROM ?@?:"+port+" IDENTIFIED BY ? DATA DIRECTORY=? REQUIRE SSL",
		j.in.User, donor.Address, j.in.Password, j.cfg.work("data"))
	cause := context.Cause(ctx)
	cancel(nil)
	<-watched
	if err != nil && cause != nil {
		return cause
	}
	return err
}

// donorIsBusy says whether the donor refused because it serves another clone. The recipient's error is always the same; the
// donor's own number is only in its text.
func donorIsBusy(err error) bool {
	return mysql.Number(err) == mysql.ErrTooManyClones ||
		mysql.Number(err) == mysql.ErrCloneDonor && strings.Contains(mysql.Message(err), ": "+strconv.Itoa(int(mysql.ErrTooManyClones))+" :")
}

// watchClone shows the progress of a clone until ctx ends, and ends it when it does not move.
func (j *job) watchClone(ctx context.Context, endpoint mysql.Endpoint, stop context.CancelCauseFunc) {
	session, err := endpoint.Connect(ctx)
	if err != nil {
		return // the clone goes on without being watched; it fails by itself when the connection does
	}
	defer session.Close()
	tick := time.NewTicker(cloneLook)
	defer tick.Stop()
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
			j.cfg.Progress.set(now.done, now.total)
		case time.Since(moved) > j.cfg.Stall:
			stop(errCloneStalled)
			return
		}
	}
}

// cloneProgress is a sum over the stages of a clone: bytes, and how many stages have begun or ended.
type cloneProgress struct{ done, total, stages int64 }

func readCloneProgress(ctx context.Context, session *mysql.Session) (cloneProgress, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var p cloneProgress
	err := session.Row(ctx, []any{&p.done, &p.total, &p.stages},
		"SELECT COALESCE(SUM(data),0), COALESCE(SUM(estimate),0), COUNT(begin_time)+COUNT(end_time) FROM performance_schema.clone_progress")
	return p, err
}
