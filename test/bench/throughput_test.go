// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moco-mysql/moco/test/e2e/world"
)

const (
	// window is how long one measurement of throughput lasts, warmUp how long before that the clients write already.
	window = 5 * time.Second
	warmUp = time.Second
	// rowBytes is the size of the rows that are written.
	rowBytes = 200
)

// TestFailoverThroughput measures writes through the Service of the product against hand-made servers with the same
// options, in turns: three with semi-sync and one acknowledgement, and two with asynchronous replication.
func TestFailoverThroughput(t *testing.T) {
	w := open(t)
	namespace := w.Namespace(t, "bench-throughput")
	cluster := world.Cluster(namespace, "product", 3)
	cluster.Spec.Config = map[string]string{"max_connections": "200"}
	w.Create(t, cluster)
	w.Available(t, namespace, "product")
	like, err := w.Kubectl(t.Context(), "exec", "-n", namespace, "product-mysql-0", "-c", "mysql", "--", "cat", "/data/mysql/moco/my.cnf")
	if err != nil {
		t.Fatal(err)
	}
	semi := &twins{World: w, namespace: namespace, name: "semi", size: 3, plugins: "semisync_source.so semisync_replica.so mysql_clone.so", like: like}
	semi.start(t)
	semi.replicate(t, "ON")
	async := &twins{World: w, namespace: namespace, name: "async", size: 2, plugins: semi.plugins, like: like}
	async.start(t)
	async.replicate(t, "OFF")
	w.Healthy(t, namespace, "product")
	login, err := w.SecretLogin(t.Context(), namespace, "product", "app")
	if err != nil {
		t.Fatal(err)
	}
	systems := []*sql.DB{
		w.ServiceFrom(t, "n1", namespace, "product", "product-mysql", login),
		w.BareServiceFrom(t, "n1", namespace, "semi", twinLogin),
		w.BareServiceFrom(t, "n1", namespace, "async", twinLogin),
	}
	for _, db := range systems {
		if _, err := db.ExecContext(t.Context(), "CREATE TABLE throughput (id BIGINT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(255) NOT NULL)"); err != nil {
			w.Fatal(t, namespace, "%v", err)
		}
	}
	var all []*Distribution
	for _, clients := range []int{1, 8, 64} {
		all = append(all, inTurns(t, systems, clients, Times(t, fewVariable, few))...)
		Publish(t, w.Repo, "throughput.md", Table(all...))
	}
}

// inTurns measures product, semi-sync and asynchronous servers one after the other, n times.
func inTurns(t *testing.T, systems []*sql.DB, clients, n int) []*Distribution {
	t.Helper()
	rates := make([]*Distribution, len(systems))
	for i, name := range []string{"the product, 3 instances", "semi-sync by hand, 3 servers", "asynchronous by hand, 2 servers"} {
		rates[i] = &Distribution{Name: fmt.Sprintf("clients: %d; %s", clients, name), Unit: "writes/s"}
	}
	ratios := []*Distribution{
		{Name: fmt.Sprintf("clients: %d; product to semi-sync by hand", clients), Unit: "1"},
		{Name: fmt.Sprintf("clients: %d; product to asynchronous by hand", clients), Unit: "1"},
	}
	for range n {
		var seen []float64
		for i, db := range systems {
			rate := throughput(t, db, clients)
			rates[i].Add(rate)
			seen = append(seen, rate)
		}
		for i, d := range ratios {
			d.Add(seen[0] / seen[i+1])
		}
	}
	return append(rates, ratios...)
}

// throughput returns the acknowledged writes per second of some clients, each with a connection of its own.
func throughput(t *testing.T, db *sql.DB, clients int) float64 {
	t.Helper()
	db.SetMaxOpenConns(clients)
	db.SetMaxIdleConns(clients)
	statement := "INSERT INTO throughput (text) VALUES ('" + strings.Repeat("x", rowBytes) + "')"
	ctx, cancel := context.WithTimeout(t.Context(), warmUp+window)
	defer cancel()
	from := time.Now().Add(warmUp)
	var acknowledged atomic.Int64
	var wg sync.WaitGroup
	failed := make(chan error, clients)
	for range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, err := db.ExecContext(ctx, statement)
				switch {
				case ctx.Err() != nil:
				case err != nil:
					failed <- err
					return
				case time.Now().After(from):
					acknowledged.Add(1)
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		t.Fatalf("writing: %v", err)
	default:
	}
	return float64(acknowledged.Load()) / window.Seconds()
}
