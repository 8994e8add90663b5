// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mycnf_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
	"github.com/moco-mysql/moco/pkg/pki"
	"github.com/moco-mysql/moco/test/server"
)

// place puts the files of an instance below a directory of the test, and makes
// its certificates.
func place(t *testing.T, in mycnf.Input) mycnf.Input {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"data", "tmp", "log"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil { //nolint:gosec // of the test
			t.Fatal(err)
		}
	}
	in.DataDir, in.TmpDir, in.SlowLog = filepath.Join(dir, "data"), filepath.Join(dir, "tmp"), filepath.Join(dir, "log", "slow.log")
	in.Socket, in.PidFile = filepath.Join(dir, "sock"), filepath.Join(dir, "pid")
	in.TLSCA, in.TLSCertificate, in.TLSKey = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	ca, err := pki.NewCA(time.Now(), pki.CARequest{CommonName: "test", Validity: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.Leaf(time.Now(), pki.LeafRequest{
		CommonName: "db-mysql-0", DNSNames: []string{"db-mysql-0"}, Usage: pki.UsagePeer, Validity: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string][]byte{in.TLSCA: ca.CertPEM(), in.TLSCertificate: leaf.CertPEM, in.TLSKey: leaf.KeyPEM} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return in
}

// validate asks mysqld whether it would take the option file.
func validate(t *testing.T, text string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	path := filepath.Join(t.TempDir(), "my.cnf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := server.Command(ctx, t, "--defaults-file="+path, "--validate-config").CombinedOutput()
	return string(said), err
}

func TestMysqldTakesTheGoldenFiles(t *testing.T) {
	for name, in := range golden() {
		t.Run(name, func(t *testing.T) {
			if said, err := validate(t, mycnf.Render(place(t, in))); err != nil {
				t.Errorf("%v:\n%s", err, said)
			}
		})
	}
	t.Run("and refuses one with an unknown option, so that the others prove something", func(t *testing.T) {
		in := place(t, mycnf.DefaultInput())
		in.User = map[string]string{"no_such_option": "1"}
		if said, err := validate(t, mycnf.Render(in)); err == nil || !strings.Contains(said, "no_such_option") {
			t.Errorf("error %v:\n%s", err, said)
		}
	})
}

// variables reads the global variables of a server.
func variables(t *testing.T, s *server.Server) map[string]string {
	t.Helper()
	rows, err := s.DB.QueryContext(t.Context(), "SHOW GLOBAL VARIABLES")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	values := map[string]string{}
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			t.Fatal(err)
		}
		values[name] = value
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return values
}

func TestARunningServerHasWhatTheOptionFileSays(t *testing.T) {
	in := place(t, golden()["9.7.4-256MiB.cnf"])
	in.User = map[string]string{
		"Max-Connections": "37", "sql_mode": "NO_ENGINE_SUBSTITUTION", "ft_boolean_syntax": ` +-><()~*:""&|`,
		"init_connect": `SET @a = '#"\', @b = " ; "`, "default_time_zone": "+05:30", "innodb_flush_method": "fsync",
		"tls_version": "TLSv1.3",
	}
	if problems := mycnf.Check(in.User); problems != nil {
		t.Fatalf("these options are fine, but: %+v", problems)
	}
	text := mycnf.Render(in)
	s := server.Start(t, text)
	got := variables(t, s)

	t.Run("each forced variable", func(t *testing.T) {
		want := mycnf.Forced(in.Version)
		if diff := cmp.Diff(want, pick(got, want)); diff != "" {
			t.Errorf("forced variables (-want +got):\n%s", diff)
		}
	})
	t.Run("the user's options, whatever characters they hold", func(t *testing.T) {
		want := map[string]string{
			"max_connections": "37", "sql_mode": "NO_ENGINE_SUBSTITUTION", "ft_boolean_syntax": ` +-><()~*:""&|`,
			"init_connect": `SET @a = '#"\', @b = " ; "`, "time_zone": "+05:30", "innodb_flush_method": "fsync", "tls_version": "TLSv1.3",
		}
		if diff := cmp.Diff(want, pick(got, want)); diff != "" {
			t.Errorf("options of the user (-want +got):\n%s", diff)
		}
	})
	t.Run("it serves nobody yet", func(t *testing.T) {
		want := map[string]string{
			"super_read_only": "ON", "read_only": "ON", "offline_mode": "ON", "event_scheduler": "OFF",
			"rpl_semi_sync_source_enabled": "OFF", "rpl_semi_sync_replica_enabled": "OFF",
		}
		if diff := cmp.Diff(want, pick(got, want)); diff != "" {
			t.Errorf("at the start (-want +got):\n%s", diff)
		}
	})
	t.Run("the sizes are those derived, not rounded by the server", func(t *testing.T) { testSizes(t, text, got) })
	t.Run("the error log goes to standard error, where the kubelet takes it", func(t *testing.T) {
		if got["log_error"] != "stderr" {
			t.Errorf("log_error is %q", got["log_error"])
		}
		if files, err := filepath.Glob(filepath.Join(s.Dir, "data", "*.err")); err != nil || len(files) > 0 {
			t.Errorf("it goes to %v (%v)", files, err)
		}
	})
	t.Run("the plugins are there", func(t *testing.T) { testPlugins(t, s) })
	t.Run("idle, it fits into its container", func(t *testing.T) {
		if resident := residentBytes(t, s); resident > in.MemoryBytes {
			t.Errorf("%d MiB of %d MiB are in use", resident>>20, in.MemoryBytes>>20)
		} else {
			t.Logf("%d MiB of %d MiB are in use", resident>>20, in.MemoryBytes>>20)
		}
	})
	t.Run("it survives as many connections as it allows", func(t *testing.T) { testFull(t, s, in.MemoryBytes) })
}

// pick returns the entries of values whose names are in like.
func pick(values, like map[string]string) map[string]string {
	picked := map[string]string{}
	for name := range like {
		if value, ok := values[name]; ok {
			picked[name] = value
		}
	}
	return picked
}

// testSizes compares the section of derived options with the server's values.
func testSizes(t *testing.T, text string, got map[string]string) {
	_, section, found := strings.Cut(text, "# Derived from")
	section, _, ends := strings.Cut(section, "\n\n")
	lines := strings.Split(section, "\n")[1:]
	if !found || !ends || len(lines) < 10 {
		t.Fatalf("the derived options are not found in:\n%s", text)
	}
	want := map[string]string{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, " = ")
		want[name] = value
	}
	if diff := cmp.Diff(want, pick(got, want)); diff != "" {
		t.Errorf("derived sizes (-want +got):\n%s", diff)
	}
}

func testPlugins(t *testing.T, s *server.Server) {
	rows, err := s.DB.QueryContext(t.Context(), `SELECT plugin_name FROM information_schema.plugins
		WHERE plugin_status = 'ACTIVE' AND (plugin_name LIKE 'rpl_semi_sync%' OR plugin_name = 'clone')`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	want := []string{"clone", "rpl_semi_sync_replica", "rpl_semi_sync_source"}
	if diff := cmp.Diff(want, names); diff != "" || rows.Err() != nil {
		t.Errorf("plugins (-want +got, %v):\n%s", rows.Err(), diff)
	}
}

// testFull opens every connection the server takes, lets each sort and keep a
// temporary table at the same time, and looks at the server's memory while all
// are open.
func testFull(t *testing.T, s *server.Server, memory int64) {
	limit, err := strconv.Atoi(variables(t, s)["max_connections"])
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, limit)
	release := make(chan struct{})
	for range limit - 1 {
		conn, err := s.DB.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		go func() {
			_, err := conn.ExecContext(t.Context(), `WITH RECURSIVE n (i, pad) AS (SELECT 1, REPEAT('x', 200) UNION ALL SELECT i + 1, pad FROM n WHERE i < 1000)
				SELECT COUNT(*), MAX(x) INTO @a, @b FROM (SELECT DISTINCT SHA2(i, 256) x, n.pad FROM n JOIN n AS m USING (i) ORDER BY x LIMIT 900) t`)
			done <- err
			<-release
		}()
	}
	for range limit - 1 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	resident := residentBytes(t, s)
	close(release)
	t.Logf("with %d connections %d MiB of %d MiB are in use", limit, resident>>20, memory>>20)
	if resident > memory {
		t.Errorf("with %d connections %d MiB of %d MiB are in use", limit, resident>>20, memory>>20)
	}
}

// residentBytes is the anonymous memory of a server, which no kernel can take
// back from it.
func residentBytes(t *testing.T, s *server.Server) int64 {
	t.Helper()
	pid, err := os.ReadFile(filepath.Join(s.Dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%s/status", strings.TrimSpace(string(pid))))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "RssAnon: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	t.Fatalf("RssAnon is missing in:\n%s", status)
	return 0
}

// TestRefusedSpellingsWouldCount shows that the spellings which Check refuses
// are not harmless: mysqld takes each of them.
func TestRefusedSpellingsWouldCount(t *testing.T) {
	dir := t.TempDir()
	spellings := map[string]string{
		"loose-sync-binlog": "0", "LOOSE_SYNC_BINLOG": "0", "loose_loose_sync_binlog": "0", "maximum-max-allowed-packet": "1M",
		"skip-log-bin": "", "disable_log_bin": "", "slave_skip_errors": "all", "log-slave-updates": "OFF", "skip_slave_start": "OFF",
		"replicate-do-db": "x", "innodb_flush_method": "4",
	}
	for _, name := range slices.Sorted(maps.Keys(spellings)) {
		t.Run(name, func(t *testing.T) {
			value := spellings[name]
			if mycnf.Check(map[string]string{name: value}) == nil {
				t.Error("Check lets it pass")
			}
			line := strings.ToLower(name)
			if value != "" {
				line += "=" + value
			}
			said, err := validate(t, "[mysqld]\nsecure_file_priv=NULL\ndatadir="+dir+"\n"+line+"\n")
			if err != nil {
				t.Errorf("mysqld does not know it, so the case proves nothing:\n%s", said)
			}
		})
	}
}
