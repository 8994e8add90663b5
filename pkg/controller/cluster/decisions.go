// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"sync"
	"time"

	"k8s.io/client-go/tools/cache"

	"github.com/moco-mysql/moco/pkg/topology"
)

const (
	// decisionsKept and decisionBytes bound what is kept of one cluster: entries, and bytes of them, compressed.
	decisionsKept = 256
	decisionBytes = 64 << 10
	// clustersKept bounds the number of clusters.
	clustersKept = 256
)

// Decisions keeps the last decisions about every cluster, for people: what was asked for, what was seen, what was planned.
// It is safe for concurrent use; a nil *Decisions keeps nothing.
type Decisions struct {
	mu  sync.Mutex
	all map[cache.ObjectName]*decisionLog
}

// decisionLog is the log of one cluster, oldest first.
type decisionLog struct {
	entries [][]byte
	size    int
	desired topology.Desired
	plan    topology.Plan
}

// decisionEntry is one line of the log.
type decisionEntry struct {
	Time     time.Time         `json:"time"`
	Desired  topology.Desired  `json:"desired"`
	Observed topology.Observed `json:"observed"`
	Plan     topology.Plan     `json:"plan"`
}

// NewDecisions returns an empty log.
func NewDecisions() *Decisions { return &Decisions{all: map[cache.ObjectName]*decisionLog{}} }

// note keeps a decision if it, or what was asked for, is another than the one before: positions alone are no news.
func (d *Decisions) note(name cache.ObjectName, now time.Time, want topology.Desired, seen topology.Observed, plan topology.Plan) error {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	log := d.all[name]
	if log != nil && reflect.DeepEqual(log.desired, want) && reflect.DeepEqual(log.plan, plan) {
		return nil
	}
	entry, err := pack(decisionEntry{now, want, seen, plan})
	if err != nil {
		return fmt.Errorf("keeping a decision: %w", err)
	}
	if log == nil {
		if len(d.all) >= clustersKept {
			clear(d.all)
		}
		log = &decisionLog{}
		d.all[name] = log
	}
	log.desired, log.plan = want, plan
	log.entries, log.size = append(log.entries, entry), log.size+len(entry)
	for len(log.entries) > decisionsKept || log.size > decisionBytes {
		log.size -= len(log.entries[0])
		log.entries[0] = nil
		log.entries = log.entries[1:]
	}
	return nil
}

// forget drops the log of a cluster that is gone.
func (d *Decisions) forget(name cache.ObjectName) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.all, name)
}

// ServeHTTP implements http.Handler: the log of the cluster named by the query parameters namespace and name, as a JSON
// array, oldest first.
func (d *Decisions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	entries, err := d.read(cache.NewObjectName(query.Get("namespace"), query.Get("name")))
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	case entries == nil:
		http.Error(w, "nothing is known of this cluster; give ?namespace= and &name=, and ask the controller that leads", http.StatusNotFound)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(entries) // the client is gone
	}
}

// read returns the entries of a cluster, or nil when there are none.
func (d *Decisions) read(name cache.ObjectName) ([]json.RawMessage, error) {
	d.mu.Lock()
	var packed [][]byte
	if log := d.all[name]; log != nil {
		packed = append(packed, log.entries...)
	}
	d.mu.Unlock()
	var entries []json.RawMessage
	for _, p := range packed {
		entry, err := unpack(p)
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// pack encodes and compresses; what is seen of a cluster repeats itself a lot.
func pack(entry decisionEntry) ([]byte, error) {
	var packed bytes.Buffer
	writer, err := flate.NewWriter(&packed, flate.BestSpeed)
	if err != nil {
		return nil, fmt.Errorf("compressing: %w", err)
	}
	if err := json.NewEncoder(writer).Encode(entry); err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	if err := writer.Close(); err != nil {
		return nil, fmt.Errorf("compressing: %w", err)
	}
	return packed.Bytes(), nil
}

func unpack(packed []byte) (json.RawMessage, error) {
	text, err := io.ReadAll(flate.NewReader(bytes.NewReader(packed)))
	if err != nil {
		return nil, fmt.Errorf("reading a decision: %w", err)
	}
	return text, nil
}
