// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/test/mysqld"
)

// TestABareMysqldAnswersOKOnSIGTERM is the reason for the supervisor: with kubelet's signal sent to mysqld itself, a
// client gets OK for a write that no replica has.
func TestABareMysqldAnswersOKOnSIGTERM(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp(lab.Dir, "bare")
	if err != nil {
		t.Fatal(err)
	}
	cnf := filepath.Join(dir, "my.cnf")
	options := "[mysqld]\nplugin_load_add=semisync_source.so\ngtid_mode=ON\nenforce_gtid_consistency=ON\nsecure_file_priv=NULL\n" +
		"skip_networking=ON\nmysqlx=OFF\ninnodb_buffer_pool_size=64M\nloose_rpl_semi_sync_source_timeout=1000000000000000000\n" +
		"datadir=" + dir + "/data\nsocket=" + dir + "/s\npid-file=" + dir + "/pid\n"
	if err := os.WriteFile(cnf, []byte(options), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := exec.Command(lab.Program, "--defaults-file="+cnf, "--initialize-insecure").CombinedOutput(); err != nil { //nolint:gosec // the lab's
		t.Fatalf("initialising: %v\n%s", err, text)
	}
	server := exec.Command(lab.Program, "--defaults-file="+cnf) //nolint:gosec // the lab's
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	endpoint := mysql.Endpoint{Network: "unix", Address: filepath.Join(dir, "s"), User: "root", Passwords: []string{""}}
	admin := mysqld.AwaitSession(t, endpoint)
	execAll(t, admin, "CREATE DATABASE d", "CREATE TABLE d.t (i INT PRIMARY KEY)", "SET GLOBAL rpl_semi_sync_source_enabled=ON")
	outcome := commit(mysqld.AwaitSession(t, endpoint), "INSERT INTO d.t VALUES (1)")
	awaitSQL(t, admin, "1", waits)
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-outcome; err != nil {
		t.Errorf("a bare mysqld answered %v; if it no longer answers OK, the supervisor's reason is gone", err)
	}
}
