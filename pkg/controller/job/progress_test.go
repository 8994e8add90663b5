// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package job

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// address is one on which nothing else listens on the port of Jobs.
const address = "127.91.17.3"

// answered serves a handler where a Job serves its progress.
func answered(t *testing.T, handler http.HandlerFunc) {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", net.JoinHostPort(address, strconv.Itoa(wire.ProgressPort)))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: progressTimeout}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // until it is closed
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
}

func TestAPodIsAskedAndNobodyElse(t *testing.T) {
	long := strings.Repeat("x", maxProgress)
	cases := map[string]struct {
		answer http.HandlerFunc
		want   string
		fails  bool
	}{
		"it answers": {answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"stage":"sending"}`)) }, want: "sending"},
		"it sends the controller elsewhere": {answer: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				_, _ = w.Write([]byte(`{"stage":"caught"}`))
				return
			}
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}, fails: true},
		"it says too much":   {answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"stage":"` + long + `"}`)) }, fails: true},
		"it never says more": {answer: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, fails: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			answered(t, c.answer)
			got, err := Ask(t.Context(), address)
			if got.Stage != c.want || (err != nil) != c.fails {
				t.Errorf("it says %q, %v", got.Stage, err)
			}
		})
	}
}
