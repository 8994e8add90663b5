// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package local

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestShimSocketsAreReadFromEveryNode(t *testing.T) {
	state := t.TempDir()
	tasks := "containerd/state/io.containerd.runtime.v2.task/k8s.io"
	write(t, filepath.Join(state, "nodes/n1", tasks, "aa/bootstrap.json"), `{"version":3,"address":"unix:///run/containerd/s/1","protocol":"ttrpc"}`)
	write(t, filepath.Join(state, "nodes/n2", tasks, "bb/bootstrap.json"), `{"version":3,"address":"unix:///run/containerd/s/2","protocol":"ttrpc"}`)
	got, err := shimSockets(state)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/run/containerd/s/1", "/run/containerd/s/2"}, got); diff != "" {
		t.Errorf("sockets (-want +got):\n%s", diff)
	}
}

func TestOnlyFilesThatMentionTheClusterAreRemoved(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "ours"), `{"netns":"/var/lib/x/nodes/n1/netns/1"}`)
	write(t, filepath.Join(dir, "alike"), `{"netns":"/var/lib/xyz/netns/1"}`)
	write(t, filepath.Join(dir, "theirs"), `{"netns":"/run/netns/1"}`)
	if err := removeMentions(dir, "/var/lib/x"); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if diff := cmp.Diff([]string{"alike", "theirs"}, left); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
}

func TestRemovingTracesOfAClusterThatNeverWasIsNoError(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	if err := removeMentions(nowhere, nowhere); err != nil {
		t.Error(err)
	}
	if err := removeBelow(nowhere); err != nil {
		t.Error(err)
	}
	if err := restoreForwarding(filepath.Join(nowhere, forwardingBefore)); err != nil {
		t.Error(err)
	}
	if sockets, err := shimSockets(nowhere); err != nil || len(sockets) > 0 {
		t.Errorf("sockets %v, error %v", sockets, err)
	}
}
