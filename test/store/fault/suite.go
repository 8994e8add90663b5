// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/backup/store/storetest"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// sizes are of an object that is sent at once, and of one of three parts.
var sizes = []int{20_000, 2*storetest.PartBytes + 17}

// kinds that end.
var kinds = []Kind{Refuse, CutRequest, CutAnswer, LoseAnswer, Hang, Garbage, BreakAtOnce}

// suite is a store reached through the proxy and, to see what is really there, beside it.
type suite struct {
	proxy          *Proxy
	through, aside *store.Bucket
	// patient goes through the proxy and gives a slow machine time.
	patient *store.Bucket
}

func (s *suite) open(t *testing.T, p *Proxy, direct wire.Store) {
	t.Helper()
	broken := direct
	broken.Endpoint = p.URL + Path(direct.Endpoint)
	options := storetest.Options()
	options.RequestTimeout, options.Attempts = time.Second, 3
	through, err := store.OpenWith(t.Context(), broken, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = through.Close() })
	s.proxy, s.through, s.aside, s.patient = p, through, storetest.OpenAs(t, direct), storetest.OpenAs(t, broken)
}

// Path is the path of a URL.
func Path(address string) string {
	r, err := http.NewRequest(http.MethodGet, address, http.NoBody)
	if err != nil {
		return ""
	}
	return r.URL.Path
}

// Run shows that no fault makes a store tell something that is not true, or leave half an object. The store is that of a
// server of its own: whatever lies in it is looked at.
func Run(t *testing.T, direct wire.Store) {
	var s suite
	s.open(t, New(t, direct.Endpoint), direct)
	for name, test := range map[string]func(*testing.T){
		"one fault at any request of a write does no harm":  s.write,
		"a write without end of faults leaves no object":    s.writeFails,
		"a new object is written once":                      s.writeNew,
		"one fault at any place of a read does no harm":     s.read,
		"a read that breaks again and again goes on":        s.readOn,
		"a read without end of faults is no short object":   s.readFails,
		"lists and deletions survive a fault":               s.listAndDelete,
		"a store that does not answer is named as such":     s.unavailable,
		"what was refused for good is not asked for anew":   s.refused,
		"a replaced object is not read as a mix of the two": s.replaced,
	} {
		t.Run(name, test)
		s.proxy.Heal()
	}
}

// at judges one request, the nth.
func at(n int, kind Kind) func(int, *http.Request) Kind {
	return func(this int, _ *http.Request) Kind {
		if this == n {
			return kind
		}
		return None
	}
}

// from judges the nth request and all behind it.
func from(n int, kind Kind) func(int, *http.Request) Kind {
	return func(this int, _ *http.Request) Kind {
		if this >= n {
			return kind
		}
		return None
	}
}

// requests counts what writing takes without a fault.
func (s *suite) requests(t *testing.T, content []byte) int {
	t.Helper()
	s.proxy.Heal()
	storetest.Write(t, s.patient, "plain", content)
	return s.proxy.Seen()
}

func (s *suite) put(t *testing.T, key string, content []byte) error {
	t.Helper()
	n, err := s.through.Write(t.Context(), key, bytes.NewReader(content))
	if err == nil && n != int64(len(content)) {
		t.Errorf("wrote %d of %d bytes without an error", n, len(content))
	}
	return err
}

// whole reports whether the object is there as it was written.
func (s *suite) whole(t *testing.T, key string, content []byte) bool {
	t.Helper()
	found, err := s.aside.ReadAll(t.Context(), key, 1<<30)
	if errors.Is(err, store.ErrNotFound) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(found, content) {
		t.Errorf("%s is there with %d other bytes", key, len(found))
	}
	return true
}

func (s *suite) write(t *testing.T) {
	for _, size := range sizes {
		content := storetest.Content(size, 1)
		n := s.requests(t, content)
		for _, kind := range kinds {
			for i := 1; i <= n; i++ {
				key := fmt.Sprintf("write/%d/%d/object", size, i)
				s.proxy.Judge(at(i, kind))
				if err := s.put(t, key, content); err != nil {
					t.Errorf("%d bytes, %s at request %d of %d: %v", size, kind, i, n, err)
				} else if !s.whole(t, key, content) {
					t.Errorf("%d bytes, %s at request %d of %d: there is no object", size, kind, i, n)
				}
				if err := s.aside.Delete(t.Context(), key); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func (s *suite) writeFails(t *testing.T) {
	for _, size := range sizes {
		content := storetest.Content(size, 2)
		n := s.requests(t, content)
		for _, kind := range []Kind{Refuse, CutRequest, LoseAnswer, BreakAtOnce} {
			for i := 1; i <= n; i++ {
				key := fmt.Sprintf("fail/%d/%d/%s/object", size, i, kind[:3])
				s.proxy.Judge(from(i, kind))
				err := s.put(t, key, content)
				if !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("%d bytes, %s from request %d of %d on: got %v", size, kind, i, n, err)
				}
				// Where only the answer is lost, what was asked for last may have been done.
				if s.whole(t, key, content) && kind != LoseAnswer {
					t.Errorf("%d bytes, %s from request %d of %d on: the object is there", size, kind, i, n)
				}
			}
		}
	}
}

func (s *suite) writeNew(t *testing.T) {
	for i, kind := range kinds {
		key, content := fmt.Sprintf("new/%d", i), []byte("manifest "+kind)
		s.proxy.Judge(at(1, kind))
		if err := s.through.WriteNew(t.Context(), key, content); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		s.proxy.Judge(at(1, kind))
		if err := s.through.WriteNew(t.Context(), key, []byte("of another")); !errors.Is(err, store.ErrExists) {
			t.Errorf("%s, another: got %v, want ErrExists", kind, err)
		}
		if !s.whole(t, key, content) {
			t.Errorf("%s: there is no object", kind)
		}
	}
}

func (s *suite) read(t *testing.T) {
	content := storetest.Content(3_000_000, 3)
	storetest.Write(t, s.aside, "read/object", content)
	for _, kind := range kinds {
		s.proxy.Judge(at(1, kind))
		if !bytes.Equal(content, storetest.Read(t, s.through, "read/object")) {
			t.Errorf("%s: other content was read", kind)
		}
	}
	for _, key := range []string{"read/none", "none"} {
		s.proxy.Judge(at(1, Refuse))
		if _, err := s.through.Reader(t.Context(), key); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("reading %s: got %v, want ErrNotFound", key, err)
		}
	}
}

func (s *suite) readOn(t *testing.T) {
	content := storetest.Content(5500, 4)
	storetest.Write(t, s.aside, "read/short", content)
	s.proxy.Judge(from(1, CutAnswer))
	if !bytes.Equal(content, storetest.Read(t, s.through, "read/short")) {
		t.Error("other content was read")
	}
	if s.proxy.Seen() < 6 {
		t.Errorf("%d requests: the connection was not cut", s.proxy.Seen())
	}
}

func (s *suite) readFails(t *testing.T) {
	content := storetest.Content(50_000, 5)
	storetest.Write(t, s.aside, "read/long", content)
	for _, kind := range []Kind{Refuse, Hang, BreakAtOnce} {
		s.proxy.Judge(func(n int, _ *http.Request) Kind {
			if n == 1 {
				return CutAnswer
			}
			return kind
		})
		got, err := s.through.ReadAll(t.Context(), "read/long", 1<<20)
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: read %d bytes with the error %v", kind, len(got), err)
		}
	}
}

func (s *suite) listAndDelete(t *testing.T) {
	for _, kind := range kinds {
		storetest.Write(t, s.aside, "list/object", []byte("x"))
		s.proxy.Judge(at(1, kind))
		if got := storetest.Keys(t, s.through, "list/"); len(got) != 1 {
			t.Errorf("%s: listed %v", kind, got)
		}
		s.proxy.Judge(at(1, kind))
		if err := s.through.Delete(t.Context(), "list/object"); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if got := storetest.Keys(t, s.aside, "list/"); len(got) != 0 {
			t.Errorf("%s: %v was not deleted", kind, got)
		}
	}
}

func (s *suite) unavailable(t *testing.T) {
	for _, kind := range []Kind{Refuse, Hang, Garbage, BreakAtOnce} {
		s.proxy.Judge(from(1, kind))
		if err := s.through.Check(t.Context(), "root"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", kind, err)
		}
		if n := s.proxy.Seen(); n > 20 {
			t.Errorf("%s: %d requests were made", kind, n)
		}
	}
}

func (s *suite) refused(t *testing.T) {
	s.proxy.Heal()
	if _, err := s.through.Reader(t.Context(), "none"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	// One store needs a second request to tell a missing object from a missing bucket.
	if n := s.proxy.Seen(); n > 2 {
		t.Errorf("%d requests were made for an object that is not there", n)
	}
}

func (s *suite) replaced(t *testing.T) {
	first, second := storetest.Content(50_000, 6), storetest.Content(50_000, 7)
	storetest.Write(t, s.aside, "mix/object", first)
	s.proxy.Judge(at(1, CutAnswer))
	r, err := s.through.Reader(t.Context(), "mix/object")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	start := make([]byte, 100)
	if _, err := r.Read(start); err != nil {
		t.Fatal(err)
	}
	storetest.Write(t, s.aside, "mix/object", second)
	for err == nil {
		_, err = r.Read(start)
	}
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}
