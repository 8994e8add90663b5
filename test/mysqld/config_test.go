// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/test/mysqld"
)

// TestConfiguration walks one instance through everything that Configure hands over.
func TestConfiguration(t *testing.T) {
	t.Parallel()
	i := mysqld.NewInstance(t, &lab, "a")
	i.Conf.SlowLogLimit = 2000
	i.Start()
	c := mysqld.NewCluster(t, &lab)
	c.MyCnf += "\n[mysqld]\nlong_query_time=0.05\n"
	c.Bootstrap(i)
	t.Run("an option file is judged by mysqld", func(t *testing.T) { validates(t, c, i) })
	t.Run("a new certificate is used without a restart", func(t *testing.T) { reloadsCertificate(t, c, i) })
	t.Run("the slow log is streamed and begun anew", func(t *testing.T) { streamsSlowLog(t, c, i) })
	t.Run("changed passwords are applied online", func(t *testing.T) { changesPasswords(t, c, i) })
	t.Run("the agent gets in after its password changed while mysqld was down", func(t *testing.T) { changesPasswordWhileDown(t, c, i) })
	t.Run("the agent gets in with a password it has never seen in the data", func(t *testing.T) { getsInByInitFile(t, c, i) })
}

func validates(t *testing.T, c *mysqld.Cluster, i *mysqld.Instance) {
	tests := map[string]struct{ line, want string }{
		"what is running is valid":         {"", ""},
		"an option nobody knows is named":  {"no_such_option=1", "no_such_option"},
		"a value that cannot be is named":  {"sql_mode=NONSENSE", "sql_mode"},
		"a plugin's option is known":       {"rpl_semi_sync_source_trace_level=16", ""},
		"an option that is misspelt in it": {"rpl_semi_sync_sauce_trace_level=16", "rpl_semi_sync_sauce"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			req := &api.ValidateRequest{MyCnf: mysqld.MyCnf() + test.line + "\n"}
			req.DeadlineMillis = 30_000
			reply, err := i.Client.Command(context.Background(), api.CommandValidate, withEpoch(c, req))
			if err != nil || !strings.Contains(reply.Message, test.want) || (test.want == "") != (reply.Message == "") {
				t.Errorf("message %q, error %v, want it to name %q", reply.Message, err, test.want)
			}
		})
	}
}

// withEpoch fills in the envelope of a command that is taken at any state.
func withEpoch(c *mysqld.Cluster, req api.Request) api.Request {
	req.Header().Epoch, req.Header().Claim = c.Record.Epoch, c.Record.Claim
	return req
}

func reloadsCertificate(t *testing.T, c *mysqld.Cluster, i *mysqld.Instance) {
	start := mysqldStart(t, i)
	before := serial(t, i)
	c.Do(i, api.CommandConfigure, c.Configuration(i))
	deadline := time.Now().Add(mysqld.Patience)
	for serial(t, i) == before {
		if time.Now().After(deadline) {
			t.Fatal("mysqld still shows the old certificate")
		}
	}
	if now := mysqldStart(t, i); now != start {
		t.Error("mysqld was restarted")
	}
}

// serial is the serial number of the certificate that mysqld shows.
func serial(t *testing.T, i *mysqld.Instance) string {
	t.Helper()
	var number string
	endpoint := i.Endpoint("nobody", "")
	endpoint.Encrypt = &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // the test looks at it
		VerifyConnection: func(state tls.ConnectionState) error {
			number = state.PeerCertificates[0].SerialNumber.String()
			return nil
		},
	}
	if _, err := endpoint.Accepts(context.Background()); err != nil {
		t.Fatal(err)
	}
	return number
}

func streamsSlowLog(t *testing.T, c *mysqld.Cluster, i *mysqld.Instance) {
	root := i.Session(i.Endpoint(agent.AccountRoot, c.Passwords[agent.AccountRoot]))
	deadline := time.Now().Add(mysqld.Patience)
	for n := 0; strings.Count(i.SlowLog.String(), "slow one") < 10; n++ {
		execAll(t, root, fmt.Sprintf("SELECT SLEEP(0.1) /* slow one %d */", n))
		if time.Now().After(deadline) {
			t.Fatalf("streamed: %s", i.SlowLog.String())
		}
	}
	if seen := strings.Count(i.SlowLog.String(), "/* slow one 3 */"); seen != 1 {
		t.Errorf("a slow query was streamed %d times, want once", seen)
	}
	// What was streamed is more than the limit, so the file was begun anew, and it stays below the limit while idle.
	size := fileSize(t, i.Conf.DataRoot+"/log/slow.log")
	if streamed := int64(len(i.SlowLog.String())); size > i.Conf.SlowLogLimit || streamed <= i.Conf.SlowLogLimit {
		t.Errorf("the slow log has %d bytes of %d, want it to be begun anew at %d", size, streamed, i.Conf.SlowLogLimit)
	}
}

func changesPasswords(t *testing.T, c *mysqld.Cluster, i *mysqld.Instance) {
	for name := range c.Passwords {
		c.Passwords[name] += "-2"
	}
	c.Do(i, api.CommandConfigure, c.Configuration(i))
	session := mysqld.AwaitSession(t, i.Endpoint(agent.AccountRoot, c.Passwords[agent.AccountRoot]))
	awaitSQL(t, session, "root@%", "SELECT CURRENT_USER()")
	for _, name := range []string{agent.AccountAdmin, agent.AccountMonitoring, agent.AccountProbe} {
		endpoint := adminEndpoint(i, c.Passwords[name])
		endpoint.User = name
		mysqld.AwaitSession(t, endpoint)
	}
	mysqld.AwaitSession(t, i.Endpoint(agent.AccountDataProtection, c.Passwords[agent.AccountDataProtection]))
}

func changesPasswordWhileDown(t *testing.T, c *mysqld.Cluster, i *mysqld.Instance) {
	i.Crash()
	i.Start()
	c.Passwords[agent.AccountAdmin] = "changed while down"
	c.Do(i, api.CommandConfigure, c.Configuration(i))
	i.Crash()
	i.Start()
	c.StartServer(i)
}

// getsInByInitFile gives the data a password that no agent was ever told, as a clone of a lagging donor has.
func getsInByInitFile(t *testing.T, c *mysqld.Cluster, i *mysqld.Instance) {
	admin := i.Session(adminEndpoint(i, c.Passwords[agent.AccountAdmin]))
	execAll(t, admin, "SET GLOBAL super_read_only=OFF", "SET SESSION sql_log_bin=0",
		"ALTER USER 'moco-admin'@'localhost' IDENTIFIED BY 'unknown'", "ALTER USER 'moco-admin'@'127.0.0.1' IDENTIFIED BY 'unknown'")
	i.Crash()
	i.Start()
	c.StartServer(i)
}
