// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"reflect"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
)

const (
	// silenceMost and silenceLeast bound how long an agent may say nothing before it counts as unknown: as long as it takes
	// to suspect a primary. It pushes at least once a second.
	silenceMost  = 3 * time.Second
	silenceLeast = 1500 * time.Millisecond
	// redialFirst and redialMost bound the wait between two attempts to open a status stream.
	redialFirst = 100 * time.Millisecond
	redialMost  = time.Second
	// positionDelay bundles pushes that report nothing but progress.
	positionDelay = time.Second
)

// target is an agent to listen to.
type target struct {
	cluster cache.ObjectName
	podUID  types.UID
	pod     string
	ip      string
	tls     *tls.Config
	// silence is how long the agent may say nothing before it counts as unknown.
	silence time.Duration
}

// fleet holds one status stream per instance of every cluster. It is safe for concurrent use.
type fleet struct {
	// notify is told that something about a cluster changed and how long the news may wait.
	notify func(cluster cache.ObjectName, delay time.Duration)
	now    func() time.Time

	mu    sync.Mutex
	links map[types.UID]*link
	wg    sync.WaitGroup
}

// link is the stream of one agent. What changes of it (silence, status, heard, cause, eager) is guarded by fleet.mu.
type link struct {
	target
	client *agent.Client
	stop   context.CancelFunc

	status *api.Status
	heard  time.Time
	cause  string
	// eager: every push is news at once, because a decision waits for a position.
	eager bool
}

func newFleet(now func() time.Time, notify func(cache.ObjectName, time.Duration)) *fleet {
	return &fleet{notify: notify, now: now, links: map[types.UID]*link{}}
}

// listen makes the streams of a cluster exactly those of targets.
func (f *fleet) listen(ctx context.Context, cluster cache.ObjectName, targets []target) {
	f.mu.Lock()
	defer f.mu.Unlock()
	wanted := map[types.UID]target{}
	for _, t := range targets {
		wanted[t.podUID] = t
	}
	for uid, l := range f.links {
		if t, ok := wanted[uid]; l.cluster == cluster && (!ok || t.ip != l.ip) {
			l.stop()
			delete(f.links, uid)
		}
	}
	for uid, t := range wanted {
		if l := f.links[uid]; l != nil {
			l.silence = t.silence
		} else {
			f.links[uid] = f.dial(ctx, t)
		}
	}
}

// dial starts the stream of one agent; f.mu is held.
func (f *fleet) dial(ctx context.Context, t target) *link {
	ctx, stop := context.WithCancel(ctx)
	l := &link{target: t, stop: stop, cause: "its agent has not been reached yet", client: agent.NewClient(t.ip, api.ControlPort, t.tls)}
	f.wg.Go(func() { f.follow(ctx, l) })
	return l
}

// follow keeps the stream open until ctx ends.
func (f *fleet) follow(ctx context.Context, l *link) {
	defer l.client.Close()
	logger := klog.FromContext(ctx)
	pause := redialFirst
	for ctx.Err() == nil {
		started := f.now()
		err := f.stream(ctx, l)
		if ctx.Err() != nil {
			return
		}
		logger.V(4).Info("Status stream ended", "cluster", l.cluster, "instance", l.pod, "err", err)
		f.lost(l, err)
		if f.now().Sub(started) > redialMost {
			pause = redialFirst
		}
		rest(ctx, pause)
		pause = min(2*pause, redialMost)
	}
}

// rest waits, or less if ctx ends.
func rest(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// stream reads one stream until it breaks or falls silent.
func (f *fleet) stream(ctx context.Context, l *link) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(f.silence(l), func() { cancel(fmt.Errorf("nothing was heard for %s", f.silence(l))) })
	defer watchdog.Stop()
	err := l.client.Stream(ctx, func(s *api.Status) error {
		watchdog.Reset(f.silence(l))
		f.heard(l, s)
		return nil
	})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// silence is how long an agent may say nothing.
func (f *fleet) silence(l *link) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return l.target.silence
}

// silenceFor is how long an agent may say nothing, given how long a primary may be silent before it is suspected.
func silenceFor(detection time.Duration) time.Duration {
	return max(silenceLeast, min(detection, silenceMost))
}

// heard keeps a status and tells whether it is news.
func (f *fleet) heard(l *link, s *api.Status) {
	if s.PodUID != string(l.podUID) {
		f.lost(l, fmt.Errorf("the agent at %s belongs to another Pod", l.ip))
		return
	}
	f.mu.Lock()
	previous := l.status
	l.status, l.heard, l.cause = s, f.now(), ""
	eager := l.eager
	f.mu.Unlock()
	switch {
	case previous == nil || !reflect.DeepEqual(withoutProgress(previous), withoutProgress(s)):
		f.notify(l.cluster, 0)
	case !reflect.DeepEqual(withoutUptime(previous), withoutUptime(s)) && eager:
		f.notify(l.cluster, 0)
	case !reflect.DeepEqual(withoutUptime(previous), withoutUptime(s)):
		f.notify(l.cluster, positionDelay)
	}
}

// lost forgets a status; unknown is told apart from every value.
func (f *fleet) lost(l *link, err error) {
	f.mu.Lock()
	news := l.status != nil || l.cause == ""
	l.status, l.cause = nil, "its agent cannot be reached: "+err.Error()
	f.mu.Unlock()
	if news {
		f.notify(l.cluster, 0)
	}
}

// report returns what is known of a Pod's agent: a status, or nil and the cause.
func (f *fleet) report(pod types.UID) (*api.Status, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.links[pod]
	switch {
	case l == nil:
		return nil, "its Pod has no address yet"
	case l.status != nil && f.now().Sub(l.heard) > l.silence:
		return nil, "its agent is silent since " + l.heard.UTC().Format(time.TimeOnly) + " UTC"
	default:
		return l.status, l.cause
	}
}

// heardAt is when a Pod's agent was last heard; zero when it never was.
func (f *fleet) heardAt(pod types.UID) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.links[pod]; l != nil {
		return l.heard
	}
	return time.Time{}
}

// client returns the client of a Pod's agent, or nil.
func (f *fleet) client(pod types.UID) *agent.Client {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.links[pod]; l != nil {
		return l.client
	}
	return nil
}

// attend says whether the positions of a cluster's instances are news at once.
func (f *fleet) attend(cluster cache.ObjectName, eager bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.links {
		if l.cluster == cluster {
			l.eager = eager
		}
	}
}

// close ends all streams and waits for them.
func (f *fleet) close() {
	f.mu.Lock()
	for _, l := range f.links {
		l.stop()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

// withoutUptime copies a status without what changes although nothing happens, or what nobody waits for: how far the archive
// is, and what could be purged.
func withoutUptime(s *api.Status) *api.Status {
	c := *s
	if c.Server != nil {
		server := *c.Server
		server.UptimeSeconds = 0
		c.Server = &server
	}
	if c.Archive != nil {
		c.Archive = &api.Archive{Gap: c.Archive.Gap, GapAt: c.Archive.GapAt, Error: c.Archive.Error}
	}
	c.BinlogGTIDs = ""
	return &c
}

// withoutProgress copies a status without positions, lag and bytes, too.
func withoutProgress(s *api.Status) *api.Status {
	c := withoutUptime(s)
	if c.Server != nil {
		c.Server.GTIDExecuted, c.Server.GTIDPurged, c.Server.Received, c.Server.NoTx = "", "", "", 0
		if c.Server.Channel != nil {
			channel := *c.Server.Channel
			channel.LagSeconds = 0
			c.Server.Channel = &channel
		}
	}
	if c.Task != nil {
		task := *c.Task
		task.BytesDone, task.BytesTotal = 0, 0
		c.Task = &task
	}
	return c
}
