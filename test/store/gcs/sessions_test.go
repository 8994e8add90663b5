// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package gcs_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
)

// unit is what the service keeps of a body that broke off: whole multiples of it.
const unit = 256 << 10

// sessions gives resumable uploads the half of Google's protocol that the server behind it lacks: a part that broke off
// counts as far as it came, what is sent again counts once, an upload that is complete says so again, and one that was
// given up is gone.
type sessions struct {
	objects http.Handler
	lock    sync.Mutex
	open    map[string]*session
}

type session struct {
	received int64
	// done is the answer to the last part.
	done    *httptest.ResponseRecorder
	givenUp bool
}

// count tells how many uploads got bytes or were given up, and how many of them are neither completed nor given up.
func (s *sessions) count() (begun, left int) {
	s.lock.Lock()
	defer s.lock.Unlock()
	for _, of := range s.open {
		if of.done == nil && !of.givenUp {
			left++
		}
	}
	return len(s.open), left
}

func (s *sessions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("upload_id")
	if id == "" {
		s.objects.ServeHTTP(w, r)
		return
	}
	content, cut := io.ReadAll(r.Body)
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.open[id] == nil {
		s.open[id] = &session{}
	}
	now := s.open[id]
	switch {
	case cut != nil:
		now.keep(s.objects, r, content[:len(content)/unit*unit])
		panic(http.ErrAbortHandler)
	case now.givenUp:
		http.NotFound(w, r)
	case r.Method == http.MethodDelete:
		now.givenUp = true
		s.objects.ServeHTTP(w, r)
	case now.done != nil:
		answer(w, now.done)
	default:
		now.take(s.objects, w, r, content)
	}
}

// take adds a part to an upload, but for what it has already.
func (s *session) take(objects http.Handler, w http.ResponseWriter, r *http.Request, content []byte) {
	first, total, empty, ok := parse(r.Header.Get("Content-Range"))
	if empty {
		first = s.received
	}
	if !ok || first > s.received || (empty && total != s.received) {
		http.Error(w, "the parts do not join", http.StatusBadRequest)
		return
	}
	content = content[min(s.received-first, int64(len(content))):]
	if len(content) == 0 && total < 0 {
		w.Header().Set("X-Http-Status-Code-Override", "308")
		return
	}
	r.Header.Set("Content-Range", contentRange(s.received, int64(len(content)), total))
	r.Body = io.NopCloser(bytes.NewReader(content))
	said := httptest.NewRecorder()
	objects.ServeHTTP(said, r)
	s.received += int64(len(content))
	if said.Code == http.StatusOK && said.Header().Get("X-Http-Status-Code-Override") == "" {
		s.done = said
	}
	answer(w, said)
}

// answer gives an answer, perhaps for the second time.
func answer(w http.ResponseWriter, said *httptest.ResponseRecorder) {
	for name, values := range said.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(said.Code)
	_, _ = w.Write(said.Body.Bytes())
}

// contentRange is the header for n bytes behind the first; total is -1 when it is not told.
func contentRange(first, n, total int64) string {
	whole := "*"
	if total >= 0 {
		whole = fmt.Sprint(total)
	}
	if n == 0 {
		return "bytes */" + whole
	}
	return fmt.Sprintf("bytes %d-%d/%s", first, first+n-1, whole)
}

// keep stores a part of a part.
func (s *session) keep(objects http.Handler, r *http.Request, content []byte) {
	first, _, empty, ok := parse(r.Header.Get("Content-Range"))
	if s.done != nil || s.givenUp || !ok || empty || first > s.received || first+int64(len(content)) <= s.received {
		return
	}
	content = content[s.received-first:]
	r.Header.Set("Content-Range", contentRange(s.received, int64(len(content)), -1))
	r.Body = io.NopCloser(bytes.NewReader(content))
	objects.ServeHTTP(httptest.NewRecorder(), r)
	s.received += int64(len(content))
}

// parse reads a Content-Range; total is -1 when it is not told, and empty says that no bytes come with it.
func parse(header string) (first, total int64, empty, ok bool) {
	var last int64
	var rest string
	if n, _ := fmt.Sscanf(header, "bytes */%s", &rest); n == 1 {
		empty = true
	} else if n, _ := fmt.Sscanf(header, "bytes %d-%d/%s", &first, &last, &rest); n != 3 {
		return 0, 0, false, false
	}
	if rest == "*" {
		return first, -1, empty, true
	}
	n, err := fmt.Sscanf(rest, "%d", &total)
	return first, total, empty, n == 1 && err == nil
}
