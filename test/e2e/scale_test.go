// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/moco-mysql/moco/test/e2e/workload"
	"github.com/moco-mysql/moco/test/e2e/world"
)

// longestStall is how long writes may stand still while instances are added.
const longestStall = 2 * time.Second

// TestScaling grows a cluster from one instance to three under write load.
func TestScaling(t *testing.T) {
	f := &fixture{suite: the, namespace: the.Namespace(t, "e2e-scale"), name: "grow"}
	scenario(t, "1 to 3 under load stalls no write", f.grow)
}

func (f *fixture) grow(t *testing.T) {
	f.Create(t, world.Cluster(f.namespace, f.name, 1))
	f.Healthy(t, f.namespace, f.name)
	f.fill(t)
	w := must(workload.Start(t.Context(), f.Primary(t, f.namespace, f.name), "under_load"))(t)
	t.Cleanup(func() { w.Stop() })
	f.acknowledged(t, w, 20)
	must(f.Kubectl(t.Context(), "scale", "mysqlcluster", "-n", f.namespace, f.name, "--replicas=3"))(t)
	progress := ""
	f.Eventually(t, f.namespace, "progress of a clone in the status", world.HealthyWithin, func(ctx context.Context) error {
		cluster, err := f.Get(ctx, f.namespace, f.name)
		if err != nil {
			return err
		}
		for _, i := range cluster.Status.Instances {
			if i.Progress != nil && i.Progress.Donor != "" && i.Progress.BytesTotal > 0 {
				progress = i.Name + ": " + i.Progress.Stage + " from " + i.Progress.Donor
				return nil
			}
		}
		return errors.New("no instance shows a donor and bytes")
	})
	f.Healthy(t, f.namespace, f.name)
	f.acknowledged(t, w, 20)
	h := w.Stop()
	t.Logf("%s; %s", progress, h)
	if h.LongestGap >= longestStall {
		t.Errorf("writes stood still for %s", h.LongestGap)
	}
	if len(h.Refused)+len(h.Unknown) > 0 {
		t.Errorf("writes failed: %s: %v", h, h.LastError)
	}
	f.converged(t, "under_load", h)
}

// fill writes some 100 MB, so that a clone lasts long enough to be watched.
func (f *fixture) fill(t *testing.T) {
	t.Helper()
	db := f.Primary(t, f.namespace, f.name)
	for _, statement := range []string{
		"CREATE TABLE ballast (id INT PRIMARY KEY AUTO_INCREMENT, text VARBINARY(32768) NOT NULL)",
		"INSERT INTO ballast (text) WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i+1 FROM n WHERE i < 500) SELECT REPEAT(RANDOM_BYTES(1024), 32) FROM n",
		"INSERT INTO ballast (text) SELECT text FROM ballast",
		"INSERT INTO ballast (text) SELECT text FROM ballast",
		"INSERT INTO ballast (text) SELECT text FROM ballast",
	} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			f.Fatal(t, f.namespace, "filling: %v", err)
		}
	}
}
