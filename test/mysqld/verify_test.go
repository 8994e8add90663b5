// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// TestATrial restores a backup for trial: as it is, with another count in its manifest, and with a bit flipped.
func TestATrial(t *testing.T) {
	t.Parallel()
	target := newArchive(t)
	s := newSolo(t, target)
	execAll(t, s.root(), "CREATE TABLE d.first (i INT PRIMARY KEY, v LONGBLOB)", "INSERT INTO d.first SELECT 1, RANDOM_BYTES(1000)",
		"INSERT INTO d.first SELECT 2, REPEAT('x', 9000000)")
	o := &origin{solo: s, site: newBackupSite(t, pair{Cluster: s.Cluster, primary: s.i, replica: s.i})}
	o.site.store = target.Store.Directory
	o.takeBackup(t, backupID)
	execAll(t, s.root(), "INSERT INTO d.t (v) VALUES ('later')", "DROP TABLE d.first", "CREATE TABLE d.second (i INT PRIMARY KEY)")
	awaitArchived(t, s.i, s.admin)

	source := o.source(wire.Target{Latest: true})
	in := &wire.JobInput{Operation: wire.OperationVerify, Store: target.Store, Cluster: target.Cluster, Backup: backupID, MyCnf: s.MyCnf, Restore: &source}
	r := o.site.run(t.Context(), in)
	if !r.Succeeded || r.ReplayedTransactions < 3 || r.RestoreSeconds <= 0 || r.RecoveredUpTo.IsZero() || r.Tables == 0 {
		t.Fatalf("a trial of a sound backup: %+v", r)
	}

	key := manifest.Key(target.Cluster, backupID)
	path := filepath.Join(target.Store.Directory, key)
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Parse(sound)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("a table with other rows than were recorded is found", func(t *testing.T) {
		other := *m
		other.Tables = append([]manifest.Table(nil), m.Tables...)
		for n := range other.Tables {
			if other.Tables[n].Name == "first" {
				other.Tables[n].Rows++
			}
		}
		text, err := other.Encode()
		if err != nil {
			t.Fatal(err)
		}
		rewrite(t, path, text)
		if r := o.site.run(t.Context(), in); r.Reason != wire.ReasonCheck || !strings.Contains(r.Message, "`d`.`first`") {
			t.Errorf("result %+v", r)
		}
	})
	t.Run("a flipped bit is found", func(t *testing.T) {
		rewrite(t, path, sound)
		pack := filepath.Join(target.Store.Directory, m.ObjectKey(m.Packs[len(m.Packs)-1].Name))
		text, err := os.ReadFile(pack)
		if err != nil {
			t.Fatal(err)
		}
		text[len(text)/2] ^= 1
		rewrite(t, pack, text)
		if r := o.site.run(t.Context(), in); r.Reason != wire.ReasonCheck {
			t.Errorf("result %+v", r)
		}
	})
	t.Run("a backup that is not there is refused", func(t *testing.T) {
		missing := *in
		other := source
		missing.Backup, missing.Restore, other.Backup = "20200101T000000Z-00000000", &other, ""
		if r := o.site.run(t.Context(), &missing); r.Reason != wire.ReasonRefused {
			t.Errorf("result %+v", r)
		}
	})
}

func rewrite(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
