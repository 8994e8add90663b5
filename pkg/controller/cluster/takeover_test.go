// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/controller/render"
	"github.com/moco-mysql/moco/pkg/topology"
)

// ensemble is a cluster whose agents take commands over HTTP and behave as the control API says, as far as a change of
// the primary goes. What they push is put into the fleet by hand.
type ensemble struct {
	*fixture
	t       *testing.T
	cluster *v1beta1.MySQLCluster
	mu      sync.Mutex
	members []*player
}

// player is one agent with its mysqld.
type player struct {
	ensemble *ensemble
	link     *link
	// status is guarded by ensemble.mu.
	status *api.Status
	// hung, if not nil, keeps every command until it is closed.
	hung chan struct{}
	// took are the names of the commands that were carried out; guarded by ensemble.mu.
	took []api.CommandName
	// archive is what it was handed last, purged are the sets it was told to purge; guarded by ensemble.mu.
	archive *wire.Archive
	purged  []string
}

// newEnsemble makes three instances of which the first is the open primary of epoch 4.
func newEnsemble(t *testing.T) *ensemble {
	t.Helper()
	cluster := newCluster(3)
	cluster.Status.Replication = openedRecord(4, 0)
	cluster.Status.Conditions = []metav1.Condition{{Type: v1beta1.ConditionInitialized, Status: metav1.ConditionTrue, Reason: "Opened"}}
	e := &ensemble{fixture: newFixture(t, cluster), t: t, cluster: cluster}
	if _, err := e.syncOnce(t, cluster); err != nil {
		t.Fatal(err)
	}
	instances := threeInstances()
	for ordinal := range int32(3) {
		e.addPlayer(ordinal, instances[ordinal].Agent)
	}
	fill(t, e.fixture)
	e.sync()
	fill(t, e.fixture)
	return e
}

// addPlayer gives the Pod of an ordinal an address and an agent.
func (e *ensemble) addPlayer(ordinal int32, status *api.Status) {
	e.t.Helper()
	pods := e.kubernetes.CoreV1().Pods("shop")
	pod, err := pods.Get(e.t.Context(), testMember(ordinal).Name, metav1.GetOptions{})
	if err != nil {
		e.t.Fatal(err)
	}
	pod.UID, pod.Status.PodIP, pod.Status.Phase = types.UID("uid-"+pod.Name), testIP(ordinal), corev1.PodRunning
	if _, err := pods.Update(e.t.Context(), pod, metav1.UpdateOptions{}); err != nil {
		e.t.Fatal(err)
	}
	p := &player{ensemble: e, status: status}
	server := httptest.NewServer(http.HandlerFunc(p.serve))
	e.t.Cleanup(server.Close)
	host, portText, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		e.t.Fatal(err)
	}
	port, err := strconv.ParseInt(portText, 10, 32)
	if err != nil {
		e.t.Fatal(err)
	}
	record := openedRecord(4, 0)
	status.PodUID, status.ConfigHash, status.Record = string(pod.UID), "hash", record
	status.PromisedEpoch, status.PromisedClaim = record.Epoch, record.Claim
	s := status.Server
	s.GTIDExecuted = testServerUUID(0) + ":1-10," + testMarker(4)
	s.Received = s.GTIDExecuted
	if s.Channel != nil {
		s.OfflineMode, s.ReplicaSemiSync, s.Channel.User = false, true, api.ReplicationUser(status.Incarnation)
	} else {
		s.SourceSemiSync, s.SourceActive, s.AckCount = true, true, 1
	}
	p.link = &link{
		target: target{cluster: cache.MetaObjectToName(e.cluster), podUID: pod.UID, pod: pod.Name, ip: testIP(ordinal), silence: 2 * time.Second},
		client: agent.NewClient(host, int32(port), nil), stop: func() {},
	}
	e.members = append(e.members, p)
	e.fleet.links[pod.UID] = p.link
	p.push()
}

// push puts a copy of the status into the fleet.
func (p *player) push() {
	p.ensemble.mu.Lock()
	text, err := json.Marshal(p.status)
	p.ensemble.mu.Unlock()
	pushed := &api.Status{}
	if err == nil {
		err = json.Unmarshal(text, pushed)
	}
	if err != nil {
		p.ensemble.t.Error(err)
	}
	p.ensemble.fleet.heard(p.link, pushed)
}

// heard reports whether the stream of the agent stands.
func (p *player) heard() bool {
	p.ensemble.fleet.mu.Lock()
	defer p.ensemble.fleet.mu.Unlock()
	return p.link.status != nil
}

// told is any command.
type told struct {
	api.Envelope
	Record   *topology.Record `json:"record"`
	Source   api.Source       `json:"source"`
	Ack      api.Acknowledge  `json:"ack"`
	AckCount int32            `json:"ackCount"`
	Attempt  int64            `json:"attempt"`
	Members  []string         `json:"members"`
	Hash     string           `json:"hash"`
	Archive  *wire.Archive    `json:"archive"`
	GTIDs    string           `json:"gtids"`
}

func (p *player) serve(w http.ResponseWriter, r *http.Request) {
	if p.hung != nil {
		<-p.hung
	}
	var request told
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	name := api.CommandName(strings.TrimPrefix(r.URL.Path, "/v1/"))
	p.ensemble.mu.Lock()
	p.took = append(p.took, name)
	p.obey(name, request)
	p.status.StateCounter++
	counter := p.status.StateCounter
	p.ensemble.mu.Unlock()
	for _, m := range p.ensemble.members {
		if m.heard() {
			m.push() // a marker is on the replicas, too
		}
	}
	_ = json.NewEncoder(w).Encode(api.Reply{StateCounter: counter})
}

// obey changes the status as the command does.
func (p *player) obey(name api.CommandName, request told) {
	a, s := p.status, p.status.Server
	if request.Record != nil {
		a.PromisedEpoch, a.PromisedClaim, a.Record = request.Epoch, request.Claim, request.Record
	}
	switch name {
	case api.CommandPromise:
		if request.Record.Phase == v1beta1.RecordClaimed {
			a.Fence = &api.Fence{Epoch: request.Epoch, Claim: request.Claim, Received: s.Received}
			if s.Channel == nil {
				a.Fence.Spared, s.SourceSemiSync = true, false
			} else {
				s.Channel.Receiver = "No"
			}
		}
	case api.CommandClose:
		s.SuperReadOnly, s.OfflineMode = true, true
		a.Closed = &api.Closed{GTIDExecuted: s.GTIDExecuted}
	case api.CommandLead:
		s.Channel, s.ReplicaSemiSync, s.SourceSemiSync, s.SourceActive, s.AckCount = nil, false, true, true, request.AckCount
		s.OfflineMode = true
	case api.CommandFollow:
		s.Channel = &api.Channel{Host: request.Source.Host, Receiver: receiverConnected, ApplierRunning: true, User: request.Source.User}
		s.ReplicaSemiSync = request.Ack == api.AckOn
		for _, m := range p.ensemble.members {
			if m.link.ip == request.Source.Host && m.status.Server != nil {
				s.Received, s.GTIDExecuted = m.status.Server.Received, m.status.Server.GTIDExecuted // it catches up at once
			}
		}
	case api.CommandMarker:
		marker := agent.MarkerGTID(request.Record, request.Attempt)
		a.Marker = &api.Marker{GTID: marker, Epoch: request.Epoch, Claim: request.Claim, State: api.MarkerCommitted}
		for _, m := range p.ensemble.members {
			if channel := m.status.Server.Channel; m == p || (channel != nil && channel.Host == p.link.ip) {
				m.status.Server.Received += "," + marker
				m.status.Server.GTIDExecuted = m.status.Server.Received
			}
		}
	case api.CommandConfigure:
		a.ConfigHash, p.archive = request.Hash, request.Archive
	case api.CommandPurge:
		p.purged = append(p.purged, request.GTIDs)
	case api.CommandOpen:
		s.OfflineMode = false
		s.SuperReadOnly = s.Channel != nil
	case api.CommandLockOut:
		a.LockedOut = request.Members
	default: // the others change nothing that a coordinator looks at
	}
}

// sync syncs once, a moment later, with every agent that is heard heard again.
func (e *ensemble) sync() *v1beta1.MySQLCluster {
	e.t.Helper()
	e.clock = e.clock.Add(100 * time.Millisecond)
	for _, m := range e.members {
		if m.heard() {
			m.push()
		}
	}
	stored, err := e.syncOnce(e.t, e.cluster)
	if err != nil {
		e.t.Fatal(err)
	}
	fill(e.t, e.fixture)
	return stored
}

// ask annotates the cluster.
func (e *ensemble) ask(annotation, value string) {
	e.t.Helper()
	clusters := e.moco.MocoV1beta1().MySQLClusters("shop")
	stored, err := clusters.Get(e.t.Context(), "db", metav1.GetOptions{})
	if err != nil {
		e.t.Fatal(err)
	}
	stored.Annotations = map[string]string{annotation: value}
	if stored, err = clusters.Update(e.t.Context(), stored, metav1.UpdateOptions{}); err == nil {
		err = e.clusters.Update(stored)
	}
	if err != nil {
		e.t.Fatal(err)
	}
}

// until syncs until the status is as wanted.
func (e *ensemble) until(done func(*v1beta1.MySQLClusterStatus) bool) *v1beta1.MySQLClusterStatus {
	e.t.Helper()
	var stored *v1beta1.MySQLCluster
	for range 40 {
		if stored = e.sync(); done(&stored.Status) {
			return &stored.Status
		}
	}
	e.t.Fatalf("it did not come so far: %+v; record %+v", stored.Status.Decision, stored.Status.Replication)
	return nil
}

// primaryEndpoints are the addresses that the primary Service leads to, and its epoch.
func (e *ensemble) primaryEndpoints() (addresses []string, epoch string) {
	e.t.Helper()
	found, err := e.kubernetes.DiscoveryV1().EndpointSlices("shop").Get(e.t.Context(), render.PrimaryServiceName(e.cluster)+"-ipv4", metav1.GetOptions{})
	if err != nil {
		e.t.Fatal(err)
	}
	for _, endpoint := range found.Endpoints {
		addresses = append(addresses, endpoint.Addresses...)
	}
	return addresses, found.Annotations[v1beta1.AnnotationEpoch]
}

// primaryLabels are the Pods labelled as the primary.
func (e *ensemble) primaryLabels() (names []string) {
	e.t.Helper()
	pods, err := e.kubernetes.CoreV1().Pods("shop").List(e.t.Context(), metav1.ListOptions{LabelSelector: v1beta1.LabelRole + "=" + v1beta1.RoleLabelPrimary})
	if err != nil {
		e.t.Fatal(err)
	}
	for n := range pods.Items {
		names = append(names, pods.Items[n].Name)
	}
	return names
}

// silence makes an instance unheard, and its replicas miss it.
func (e *ensemble) silence(ordinal int) {
	e.fleet.lost(e.members[ordinal].link, fmt.Errorf("no route to host"))
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range e.members {
		if channel := m.status.Server.Channel; channel != nil && channel.Host == testIP(int32(ordinal)) {
			channel.Receiver, channel.QuietMillis = "Connecting", 2500
		}
	}
}

func TestALostPrimaryIsReplaced(t *testing.T) {
	e := newEnsemble(t)
	if addresses, epoch := e.primaryEndpoints(); !cmp.Equal(addresses, []string{testIP(0)}) || epoch != "4" {
		t.Fatalf("before: %v in epoch %s", addresses, epoch)
	}
	e.silence(0)
	if stored := e.sync(); stored.Status.Replication.Epoch != 4 {
		t.Error("the primary was replaced before it was silent for the detection time")
	}
	e.clock = e.clock.Add(1800 * time.Millisecond)
	e.sync()
	if addresses, epoch := e.primaryEndpoints(); !cmp.Equal(addresses, []string{testIP(0)}) || epoch != "4" {
		t.Errorf("claimed: %v in epoch %s: it is changed once, when the new primary is open", addresses, epoch)
	}
	status := e.until(func(s *v1beta1.MySQLClusterStatus) bool { return s.LastTransition != nil && s.Primary != "" })
	to := status.LastTransition.To
	if to == "db-mysql-0" || status.Primary != to || status.Replication.LastOpened.Primary.Name != to || status.Replication.Epoch != 5 {
		t.Errorf("%s leads: %+v", status.Primary, status.Replication)
	}
	made := status.LastTransition
	if made.Kind != v1beta1.TransitionFailover || made.LostTransactions != 0 || len(made.Proof.PromisedBy) != 2 || len(made.Proof.AckedBy) != 1 || made.WritePauseMillis < 2000 {
		t.Errorf("%+v", made)
	}
	address := testIP(int32(slices.IndexFunc(e.members, func(p *player) bool { return p.status.Pod == to })))
	if addresses, epoch := e.primaryEndpoints(); !cmp.Equal(addresses, []string{address}) || epoch != "5" {
		t.Errorf("after: %v in epoch %s", addresses, epoch)
	}
	e.until(func(s *v1beta1.MySQLClusterStatus) bool { return s.Decision.Rule == string(topology.RuleRejoin) })
	if labels := e.primaryLabels(); !cmp.Equal(labels, []string{to}) {
		t.Errorf("labelled as the primary: %v", labels)
	}
}

func TestASwitchoverThatIsAskedForIsDoneOnce(t *testing.T) {
	e := newEnsemble(t)
	e.ask(v1beta1.AnnotationSwitchover, "db-mysql-2")
	status := e.until(func(s *v1beta1.MySQLClusterStatus) bool { return s.LastRequest != nil })
	if status.LastRequest.State != v1beta1.RequestRunning {
		t.Errorf("the first news: %+v", status.LastRequest)
	}
	status = e.until(func(s *v1beta1.MySQLClusterStatus) bool { return s.LastRequest.State != v1beta1.RequestRunning })
	if status.LastRequest.State != v1beta1.RequestSucceeded || status.Replication.LastOpened.Primary.Name != "db-mysql-2" {
		t.Fatalf("%+v; %+v", status.LastRequest, status.Replication)
	}
	status = e.until(func(s *v1beta1.MySQLClusterStatus) bool { return s.LastTransition != nil })
	if made := status.LastTransition; made.Kind != v1beta1.TransitionSwitchover || made.From != "db-mysql-0" || made.To != "db-mysql-2" || len(made.Proof.PromisedBy) != 3 {
		t.Errorf("%+v", made)
	}
	for range 5 {
		status = &e.sync().Status
	}
	if status.Replication.Epoch != 5 || !cmp.Equal(e.primaryLabels(), []string{"db-mysql-2"}) {
		t.Errorf("it went on: epoch %d, labels %v", status.Replication.Epoch, e.primaryLabels())
	}
}

func TestASwitchoverThatFailsItsChecksIsRefused(t *testing.T) {
	e := newEnsemble(t)
	e.ask(v1beta1.AnnotationSwitchover, "db-mysql-7")
	status := e.until(func(s *v1beta1.MySQLClusterStatus) bool { return s.LastRequest != nil })
	if r := status.LastRequest; r.State != v1beta1.RequestRefused || r.Value != "db-mysql-7" || !strings.Contains(r.Message, "db-mysql-7") {
		t.Errorf("%+v", r)
	}
	if slices.Contains(e.members[0].took, api.CommandClose) || status.Replication.Epoch != 4 {
		t.Error("something was touched")
	}
}

func TestAHangingInstanceHoldsNobodyUp(t *testing.T) {
	e := newEnsemble(t)
	hung := make(chan struct{})
	release := sync.OnceFunc(func() { close(hung) })
	t.Cleanup(release) // before the server is closed, which waits for its requests
	e.members[2].hung = hung
	record := openedRecord(4, 0)
	plan := topology.Plan{Actions: []topology.Action{
		{Kind: topology.Promise, Instance: "db-mysql-1", Record: record}, {Kind: topology.Promise, Instance: "db-mysql-2", Record: record},
	}}
	w, err := e.gather(e.sync())
	if err != nil {
		t.Fatal(err)
	}
	e.observe(w)
	took := func(n int) int {
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.members[n].took)
	}
	before := took(1)
	for round := range 2 {
		started := time.Now()
		if _, err := e.execute(t.Context(), w, plan); err != nil {
			t.Fatal(err)
		}
		if elapsed := time.Since(started); elapsed > 2*time.Second {
			t.Errorf("round %d took %s", round, elapsed)
		}
	}
	if got := took(1) - before; got != 2 {
		t.Errorf("the other instance was told %d times, want 2", got)
	}
	release()
	e.commands.Wait()
	if got := took(2); got != 1 {
		t.Errorf("the hanging instance was told %d times, want once: it was still busy", got)
	}
	if length := e.queue.Len(); length != 1 {
		t.Errorf("%d keys are queued: the late answer is no news", length)
	}
}
