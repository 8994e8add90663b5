// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"k8s.io/klog/v2"
)

const (
	// exporterReload is where mysqld_exporter reads its option file anew.
	exporterReload = "http://127.0.0.1:9187/-/reload"
	// exporterInterval is the time between two reloads, exporterPeriod how long they go on after a change. kubelet brings a
	// changed Secret into the exporter's volume within its sync period and the age of its cache, about two minutes, and
	// tells nobody.
	exporterInterval = 10 * time.Second
	exporterPeriod   = 3 * time.Minute
	exporterTimeout  = 2 * time.Second
)

// keepExporter has the exporter read its password anew for a while after the configuration changed. An exporter that was
// started after the change has read it already; telling it again is harmless.
func (in *instance) keepExporter() {
	tick := time.NewTicker(exporterInterval)
	defer tick.Stop()
	var seen string
	var until time.Time
	for {
		select {
		case <-in.ctx.Done():
			return
		case now := <-tick.C:
			if hash := in.configHash(); hash != seen {
				seen, until = hash, now.Add(exporterPeriod)
			}
			if now.After(until) {
				continue
			}
			if err := reloadExporter(in.ctx, exporterReload); err != nil {
				klog.FromContext(in.ctx).V(4).Info("The exporter was not reloaded", "err", err)
			}
		}
	}
}

// configHash is that of the configuration in force, "" before the first.
func (in *instance) configHash() string {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	if in.config == nil {
		return ""
	}
	return in.config.Hash
}

// reloadExporter tells one exporter to read its option file.
func reloadExporter(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, exporterTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return fmt.Errorf("preparing the reload: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("reloading the exporter: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("reloading the exporter: it answered %s", resp.Status)
	}
	return nil
}
