// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/admission"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
)

// Files in the agent's own directory.
const (
	fileState       = "state"
	fileConfig      = "config.json"
	fileMyCnf       = "my.cnf"
	fileInitCnf     = "init.cnf"
	fileInitSQL     = "init.sql"
	fileCA          = "ca.pem"
	fileCertificate = "cert.pem"
	fileKey         = "key.pem"
)

// settings is what Configure handed over, as kept on the volume.
type settings struct {
	api.ConfigureRequest
	// PreviousAdmin are the passwords moco-admin had before, the newest first.
	PreviousAdmin []string `json:"previousAdmin,omitempty"`
}

// maxPrevious bounds PreviousAdmin.
const maxPrevious = 8

// adminPasswords are the passwords to try for the agent's own account, the present one first. A replica has the one
// before until it has replicated the change, and data cloned or kept for long may have an older one.
func (s *settings) adminPasswords() []string {
	if s == nil {
		return nil
	}
	return append([]string{s.password(AccountAdmin)}, s.PreviousAdmin...)
}

// password returns the password of a fixed account, "" when there is none.
func (s *settings) password(name string) string {
	for _, account := range s.Accounts {
		if account.Username == name {
			return account.Password
		}
	}
	return ""
}

// readVolume makes the agent's directories and reads its state, or begins a new one on an empty volume.
func (in *instance) readVolume() error {
	for _, dir := range []string{in.cfg.ownDir(), in.cfg.tmpDir(), filepath.Dir(in.cfg.slowLog())} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return fmt.Errorf("making a directory: %w", err)
		}
	}
	complete, err := exists(in.cfg.dataDir())
	if err != nil {
		return fmt.Errorf("looking for data: %w", err)
	}
	in.volume = api.VolumeEmpty
	if complete {
		in.volume = api.VolumeReady
	}
	if err := in.readState(complete); err != nil {
		return err
	}
	return in.readConfig()
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// readState opens the state file. Without one, or with one that cannot be read, only an empty volume gets a new state:
// the data of an unknown incarnation with an unknown promise takes part in nothing.
func (in *instance) readState(complete bool) error {
	path := in.cfg.own(fileState)
	file, durable, err := state.Open(path)
	if err == nil {
		in.file, in.durable = file, durable
		return nil
	}
	if !errors.Is(err, state.ErrMissing) && !errors.Is(err, state.ErrUnreadable) {
		return fmt.Errorf("reading the agent's state: %w", err)
	}
	klog.FromContext(in.ctx).Info("No readable state of the agent", "data", complete, "err", err)
	if complete {
		in.volume = api.VolumeUnreadable
		return nil
	}
	if errors.Is(err, state.ErrUnreadable) {
		if err := os.Rename(path, path+".unreadable"); err != nil {
			return fmt.Errorf("putting the unreadable state aside: %w", err)
		}
	}
	in.durable = state.Durable{Incarnation: newID(), BootID: in.cfg.BootID, Counter: 1}
	in.file, err = state.Create(path, in.durable)
	return err
}

func (in *instance) readConfig() error {
	text, err := os.ReadFile(in.cfg.own(fileConfig))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the kept configuration: %w", err)
	}
	kept := &settings{}
	if err := json.Unmarshal(text, kept); err != nil {
		return fmt.Errorf("decoding the kept configuration: %w", err)
	}
	in.config = kept
	return in.layOut(kept)
}

// layOut writes the files mysqld reads from the kept configuration.
func (in *instance) layOut(s *settings) error {
	for name, content := range map[string]string{
		fileMyCnf: s.MyCnf, fileInitCnf: loosen(s.MyCnf), fileInitSQL: initSQL(s, in.members()),
		fileCA: s.CA, fileCertificate: s.Certificate, fileKey: s.Key,
	} {
		if err := replaceFile(in.cfg.own(name), []byte(content)); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	return nil
}

// replaceFile replaces a file whole: a crash leaves the old or the new one.
func replaceFile(path string, content []byte) error {
	draft := path + ".new"
	file, err := os.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(draft, path); err != nil {
		return err
	}
	return syncPath(filepath.Dir(path))
}

func syncPath(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// syncVolume flushes everything written to the file system of path.
func syncVolume(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(file.Fd())), file.Close())
}

// describe fills in a Status; agent.mu is held.
func (in *instance) describe(s *api.Status) {
	d := in.durable
	s.StateCounter, s.Volume, s.Incarnation = d.Counter, in.volume, d.Incarnation
	s.PromisedEpoch, s.PromisedClaim, s.Record = d.PromisedEpoch, d.PromisedClaim, d.Record
	s.RequiresOwnLog = d.RequiresOwnLog
	if in.volume == api.VolumeReady {
		s.RestoredFrom = d.RestoredFrom
	}
	s.ImageVersion, s.ImageError = in.imageVersion, in.imageError
	if in.config != nil {
		s.ConfigHash = in.config.Hash
	}
	s.StartedConfigHash = d.StartedHash
	if in.serverStartLocked() != "" {
		s.Mysqld = api.MysqldRunning
	}
	s.MysqldSince = in.process.Since
	if exit := in.process.Exit; exit != nil && s.Mysqld == api.MysqldDown && exit.StartID == d.StartedID {
		s.ExitMessage = fmt.Sprintf("exit code %d, signal %d, ordered %q at %s", exit.Code, exit.Signal, exit.Ordered, exit.At.UTC().Format(time.RFC3339))
	}
	s.Server, s.ServerError = in.server, in.serverErr
	s.StalledMillis = in.stalled.Milliseconds()
	s.BinlogGTIDs = in.binlogGTIDs
	s.Archive = in.archiving.describe(time.Now(), in.server)
	s.Marker, s.Task = copied(in.marker), copied(in.task)
	s.Fence, s.Closed, s.LockedOut = in.fenceLocked(), in.closedLocked(), in.lockedOutLocked()
	s.NeedsReturn = admission.NeedsReturn(d, in.serverStartLocked())
	in.describeVote(s)
}

// copied returns a copy of what v points to, nil for nil.
func copied[T any](v *T) *T {
	if v == nil {
		return nil
	}
	c := *v
	return &c
}
