// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package storetest holds what every kind of store must do for pkg/backup/store: one suite for a directory, memory, and
// the servers of all providers. Only tests call it.
package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// PartBytes is the length of the parts that the suite writes: the smallest there is.
const PartBytes = 5 << 20

// Options of the suite's buckets.
func Options() store.Options {
	return store.Options{PartBytes: PartBytes, Concurrency: 2, Attempts: 4, RequestTimeout: 10 * time.Second}
}

// Open opens a store below a prefix that nothing else has.
func Open(t *testing.T, s wire.Store) *store.Bucket {
	t.Helper()
	s.Prefix = strings.Trim(s.Prefix+"/"+rand.Text(), "/")
	return OpenAs(t, s)
}

// OpenAs opens a store as it is.
func OpenAs(t *testing.T, s wire.Store) *store.Bucket {
	t.Helper()
	b, err := store.OpenWith(t.Context(), s, Options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// Content is n bytes that are different at every place and for every seed.
func Content(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7+i>>8*13+i>>16*31) + seed
	}
	return b
}

// Read reads an object whole.
func Read(t *testing.T, b *store.Bucket, key string) []byte {
	t.Helper()
	content, err := b.ReadAll(t.Context(), key, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// Keys lists the keys that begin with prefix.
func Keys(t *testing.T, b *store.Bucket, prefix string) []string {
	t.Helper()
	var keys []string
	for o, err := range b.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

// Write writes or fails the test.
func Write(t *testing.T, b *store.Bucket, key string, content []byte) {
	t.Helper()
	n, err := b.Write(t.Context(), key, bytes.NewReader(content))
	if err != nil || n != int64(len(content)) {
		t.Fatalf("writing %d bytes to %s: %d, %v", len(content), key, n, err)
	}
}

// Run runs the suite on a store that takes writes. Its objects lie below random prefixes, and are left there.
func Run(t *testing.T, s wire.Store) {
	for name, test := range map[string]func(*testing.T, wire.Store){
		"what was written is read":                          written,
		"an object is replaced whole":                       replaced,
		"a new object replaces none":                        newOnly,
		"of many who write a new object at once one does":   newRace,
		"a source that fails leaves what was there":         sourceFails,
		"a write that is cancelled leaves nothing":          cancelled,
		"lists are complete and in order":                   lists,
		"directories are found":                             dirs,
		"what was deleted is gone":                          deleted,
		"what is not there is not found":                    missing,
		"a large object is not read into a small limit":     limited,
		"keys that mean something else somewhere are none":  keys,
		"what lies below another prefix is not seen":        prefixes,
		"a check succeeds and leaves nothing":               check,
		"sweeping leaves objects alone":                     sweep,
		"readers of many goroutines do not disturb another": parallel,
	} {
		t.Run(name, func(t *testing.T) { test(t, s) })
	}
}

func written(t *testing.T, s wire.Store) {
	b := Open(t, s)
	for _, size := range []int{0, 1, 1000, PartBytes - 1, PartBytes, PartBytes + 1, 2 * PartBytes, 3*PartBytes + 17} {
		for name, reader := range map[string]func(io.Reader) io.Reader{
			"plain": func(r io.Reader) io.Reader { return r }, "halves": iotest.HalfReader, "early-end": iotest.DataErrReader,
		} {
			content, key := Content(size, byte(size)), fmt.Sprintf("a/%d/%s.zst", size, name)
			n, err := b.Write(t.Context(), key, reader(bytes.NewReader(content)))
			if err != nil || n != int64(size) {
				t.Fatalf("writing %d bytes: %d, %v", size, n, err)
			}
			if !bytes.Equal(content, Read(t, b, key)) {
				t.Errorf("%s: other content was read than written", key)
			}
			for o, err := range b.List(t.Context(), key) {
				if err != nil || o.Bytes != int64(size) || time.Since(o.Modified).Abs() > time.Minute {
					t.Errorf("listed as %+v, %v", o, err)
				}
			}
		}
	}
}

func replaced(t *testing.T, s wire.Store) {
	b := Open(t, s)
	for i, size := range []int{10, PartBytes + 5, 0, PartBytes, 3} {
		content := Content(size, byte(i))
		Write(t, b, "dir/object", content)
		if !bytes.Equal(content, Read(t, b, "dir/object")) {
			t.Errorf("version %d was not read", i)
		}
	}
	if diff := cmp.Diff([]string{"dir/object"}, Keys(t, b, "")); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func newOnly(t *testing.T, s wire.Store) {
	b := Open(t, s)
	for _, test := range []struct {
		content string
		want    error
	}{{"first", nil}, {"second", store.ErrExists}, {"first", nil}, {"longer than the first", store.ErrExists}, {"", store.ErrExists}} {
		if err := b.WriteNew(t.Context(), "dir/manifest.json", []byte(test.content)); !errors.Is(err, test.want) {
			t.Errorf("writing %q: got %v, want %v", test.content, err, test.want)
		}
	}
	if got := string(Read(t, b, "dir/manifest.json")); got != "first" {
		t.Errorf("the object is %q", got)
	}
}

func newRace(t *testing.T, s wire.Store) {
	b := Open(t, s)
	for round := range 5 {
		key := fmt.Sprintf("race/%d/object", round)
		var lock sync.Mutex
		var winners []string
		var group errgroup.Group
		for writer := range 8 {
			content := fmt.Sprintf("of writer %d", writer)
			group.Go(func() error {
				err := b.WriteNew(t.Context(), key, []byte(content))
				if errors.Is(err, store.ErrExists) {
					return nil
				}
				lock.Lock()
				defer lock.Unlock()
				winners = append(winners, content)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{string(Read(t, b, key))}, winners); diff != "" {
			t.Errorf("what is there and who thinks to have written it (-want +got):\n%s", diff)
		}
	}
}

// sizesOfFailures are where a write is ended: in the first part, between parts, in a later one.
func sizesOfFailures() []int { return []int{0, 1000, PartBytes, 2*PartBytes + 100, 3 * PartBytes} }

func sourceFails(t *testing.T, s wire.Store) {
	b := Open(t, s)
	Write(t, b, "there", []byte("before"))
	broken := errors.New("the source broke")
	for _, size := range sizesOfFailures() {
		for _, key := range []string{"there", "absent/object"} {
			source := io.MultiReader(bytes.NewReader(Content(size, 1)), iotest.ErrReader(broken))
			if _, err := b.Write(t.Context(), key, source); !errors.Is(err, broken) {
				t.Errorf("a source that broke after %d bytes: got %v", size, err)
			}
		}
	}
	if got := string(Read(t, b, "there")); got != "before" {
		t.Errorf("the object became %q", got)
	}
	if diff := cmp.Diff([]string{"there"}, Keys(t, b, "")); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func cancelled(t *testing.T, s wire.Store) {
	b := Open(t, s)
	for _, size := range sizesOfFailures() {
		ctx, cancel := context.WithCancel(t.Context())
		source, feed := io.Pipe()
		go func() {
			_, _ = feed.Write(Content(size, 1))
			cancel()
			_ = feed.CloseWithError(ctx.Err())
		}()
		if _, err := b.Write(ctx, "dir/object", source); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled after %d bytes: got %v", size, err)
		}
		cancel()
		// One that has all it is to write is cancelled before it is asked to.
		if _, err := b.Write(ctx, "dir/object", bytes.NewReader(Content(size, 1))); !errors.Is(err, context.Canceled) {
			t.Errorf("begun with a cancelled context: got %v", err)
		}
	}
	if found := Keys(t, b, ""); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

// writeMany writes small objects, several at a time.
func writeMany(t *testing.T, b *store.Bucket, keys []string) {
	t.Helper()
	var group errgroup.Group
	group.SetLimit(8)
	for _, key := range keys {
		group.Go(func() error {
			_, err := b.Write(t.Context(), key, strings.NewReader(key))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func lists(t *testing.T, s wire.Store) {
	b := Open(t, s)
	// More than a page of any provider has.
	want := []string{"a-b", "a.b", "a/b", "a/b.c/d", "a0", "ab/c/d/e", "z"}
	for i := range 1100 {
		want = append(want, fmt.Sprintf("many/seg-%08d.binlog.zst", i))
	}
	slices.Sort(want)
	writeMany(t, b, want)
	for _, prefix := range []string{"", "a", "a/", "a/b", "many/", "many/seg-0000010", "ab/c/d/", "none", "none/", "z/"} {
		var matching []string
		for _, key := range want {
			if strings.HasPrefix(key, prefix) {
				matching = append(matching, key)
			}
		}
		if diff := cmp.Diff(matching, Keys(t, b, prefix)); diff != "" {
			t.Errorf("what begins with %q (-want +got):\n%s", prefix, diff)
		}
	}
	next, stop := iter.Pull2(b.List(t.Context(), "many/"))
	defer stop()
	if o, err, ok := next(); err != nil || !ok || o.Key != "many/seg-00000000.binlog.zst" {
		t.Errorf("the first is %v, %v, %v", o, err, ok)
	}
}

func dirs(t *testing.T, s wire.Store) {
	b := Open(t, s)
	writeMany(t, b, []string{"top", "a/1", "a/2/3", "a/2/4", "a/5/6/7", "a/10", "a.b/1", "c/d/e"})
	for dir, want := range map[string][]string{
		"": {"a", "a.b", "c"}, "a": {"2", "5"}, "a/": {"2", "5"}, "a/2": nil, "a/5": {"6"}, "c": {"d"}, "none": nil, "top": nil,
	} {
		var got []string
		for name, err := range b.Dirs(t.Context(), dir) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, name)
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("directories in %q (-want +got):\n%s", dir, diff)
		}
	}
}

func deleted(t *testing.T, s wire.Store) {
	b := Open(t, s)
	writeMany(t, b, []string{"a/b/c", "a/b/d"})
	for range 2 {
		if err := b.Delete(t.Context(), "a/b/c"); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"a/b/d"}, Keys(t, b, "")); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	for _, key := range []string{"a/b/d", "a/b/d/e", "never/was"} {
		if err := b.Delete(t.Context(), key); err != nil {
			t.Errorf("deleting %s: %v", key, err)
		}
	}
	if _, err := b.ReadAll(t.Context(), "a/b/d", 10); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("reading what was deleted: %v", err)
	}
	for name, err := range b.Dirs(t.Context(), "") {
		t.Errorf("the directory %q is left (%v)", name, err)
	}
	Write(t, b, "a/b/c", []byte("again"))
}

func missing(t *testing.T, s wire.Store) {
	b := Open(t, s)
	Write(t, b, "dir/object", []byte("x"))
	for _, key := range []string{"none", "dir/none", "dir", "none/none"} {
		if _, err := b.Reader(t.Context(), key); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("reading %s: got %v", key, err)
		}
	}
}

func limited(t *testing.T, s wire.Store) {
	b := Open(t, s)
	Write(t, b, "object", Content(100, 0))
	for limit, want := range map[int64]error{100: nil, 99: store.ErrTooLarge, 0: store.ErrTooLarge} {
		if _, err := b.ReadAll(t.Context(), "object", limit); !errors.Is(err, want) {
			t.Errorf("with the limit %d: got %v, want %v", limit, err, want)
		}
	}
}

func keys(t *testing.T, s wire.Store) {
	b := Open(t, s)
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", `a\b`, "a\x00b", "a\nb", "a b", "ä", "a?b", "a#b", "a%2fb", "a__0x2f__b",
		".moco-partial/x", strings.Repeat("a", 201), strings.Repeat("a/", 500) + "a",
	} {
		_, written := b.Write(t.Context(), key, strings.NewReader("x"))
		_, read := b.Reader(t.Context(), key)
		for _, err := range []error{written, read, b.WriteNew(t.Context(), key, nil), b.Delete(t.Context(), key)} {
			if !errors.Is(err, store.ErrInvalid) {
				t.Errorf("the key %q: got %v", key, err)
			}
		}
	}
}

func prefixes(t *testing.T, s wire.Store) {
	s.Prefix = rand.Text() + "/deep"
	one, two := s, s
	one.Prefix += "/one"
	two.Prefix += "/one-two"
	a, b := OpenAs(t, one), OpenAs(t, two)
	Write(t, a, "x/object", []byte("of one"))
	Write(t, b, "x/object", []byte("of two"))
	if diff := cmp.Diff([]string{"x/object"}, Keys(t, a, "")); diff != "" {
		t.Errorf("keys of one (-want +got):\n%s", diff)
	}
	if err := a.Delete(t.Context(), "x/object"); err != nil {
		t.Fatal(err)
	}
	if got := string(Read(t, b, "x/object")); got != "of two" {
		t.Errorf("the other prefix has %q", got)
	}
	if got := b.Location("x/object"); !strings.HasSuffix(got, two.Prefix+"/x/object") {
		t.Errorf("its location is %q", got)
	}
}

func check(t *testing.T, s wire.Store) {
	b := Open(t, s)
	for _, root := range []string{"", "namespace/name/uid"} {
		if err := b.Check(t.Context(), root); err != nil {
			t.Errorf("checking %q: %v", root, err)
		}
	}
	if found := Keys(t, b, ""); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

func sweep(t *testing.T, s wire.Store) {
	b := Open(t, s)
	Write(t, b, "a/object", Content(PartBytes+1, 0))
	if err := b.Sweep(t.Context(), "a/", time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a/object"}, Keys(t, b, "")); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func parallel(t *testing.T, s wire.Store) {
	b := Open(t, s)
	var group errgroup.Group
	for i := range 6 {
		group.Go(func() error {
			key, content := fmt.Sprintf("p/%d", i), Content(PartBytes+i*1000, byte(i))
			if _, err := b.Write(t.Context(), key, bytes.NewReader(content)); err != nil {
				return err
			}
			got, err := b.ReadAll(t.Context(), key, 1<<30)
			if err == nil && !bytes.Equal(got, content) {
				err = fmt.Errorf("%s has the content of another", key)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}
