// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// memories are the stores in memory of this process by their names: who opens one by name finds what others wrote.
var memories sync.Map

// memory is a store for tests of one process.
type memory struct {
	name    string
	lock    sync.Mutex
	objects map[string]memoryObject
	changes int
}

type memoryObject struct {
	content  []byte
	version  string
	modified time.Time
}

func openMemory(name string) (backend, error) {
	if name == "" {
		return nil, invalid("a store in memory needs a bucket")
	}
	m, _ := memories.LoadOrStore(name, &memory{name: name, objects: map[string]memoryObject{}})
	return m.(*memory), nil
}

func (m *memory) String() string             { return fmt.Sprintf("memory bucket %q", m.name) }
func (m *memory) location(key string) string { return "memory://" + m.name + "/" + key }
func (m *memory) parallel(int) int           { return 1 }
func (m *memory) close() error               { return nil }

func (m *memory) get(_ context.Context, key string, at position) (*body, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	o, ok := m.objects[key]
	if !ok || (at.version != "" && at.version != o.version) {
		return nil, &failure{kind: ErrNotFound}
	}
	rest := io.NopCloser(bytes.NewReader(o.content[at.offset:]))
	return &body{ReadCloser: rest, size: int64(len(o.content)), version: o.version}, nil
}

func (m *memory) put(ctx context.Context, key string, content []byte, c condition) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	if ctx.Err() != nil {
		return unanswered(ctx.Err())
	}
	if _, ok := m.objects[key]; ok && c == ifAbsent {
		return &failure{kind: ErrExists}
	}
	m.changes++
	m.objects[key] = memoryObject{content: bytes.Clone(content), version: fmt.Sprint(m.changes), modified: time.Now()}
	return nil
}

func (m *memory) begin(_ context.Context, key string) (upload, error) {
	return &memoryUpload{memory: m, key: key}, nil
}

func (m *memory) list(_ context.Context, q query) (page, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	var p page
	for _, key := range slices.Sorted(maps.Keys(m.objects)) {
		rest, ok := strings.CutPrefix(key, q.prefix)
		if !ok {
			continue
		}
		e := entry{key: key, bytes: int64(len(m.objects[key].content)), modified: m.objects[key].modified}
		if name, _, below := strings.Cut(rest, "/"); below && q.shallow {
			e = entry{key: q.prefix + name + "/"}
		}
		if n := len(p.entries); n == 0 || p.entries[n-1].key != e.key {
			p.entries = append(p.entries, e)
		}
	}
	return p, nil
}

func (m *memory) remove(_ context.Context, key string) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	delete(m.objects, key)
	return nil
}

func (m *memory) sweep(context.Context, string, time.Time) error { return nil }

// memoryUpload keeps the parts until they are an object.
type memoryUpload struct {
	memory  *memory
	key     string
	content []byte
}

func (u *memoryUpload) send(_ context.Context, p part) error {
	u.content = append(u.content, p.content...)
	return nil
}

func (u *memoryUpload) commit(ctx context.Context, _ int) error {
	return u.memory.put(ctx, u.key, u.content, always)
}

func (u *memoryUpload) abort(context.Context) error { return nil }
