// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package document_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/backup/document"
)

type sample struct {
	Name  string   `json:"name"`
	Parts []string `json:"parts,omitempty"`
}

const limit = 1 << 20

func encode(t *testing.T, value any) []byte {
	t.Helper()
	data, err := document.Encode(value)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestADocumentReadsAsItWasWritten(t *testing.T) {
	want := sample{Name: "a < b & \"c\"", Parts: []string{"one", "two"}}
	data := encode(t, want)
	var got sample
	if err := document.Parse(data, limit, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestTheSumIsThatOfAllLinesButTheLastTwo holds what people are told to check by hand.
func TestTheSumIsThatOfAllLinesButTheLastTwo(t *testing.T) {
	data := encode(t, sample{Name: "x"})
	lines := bytes.SplitAfter(data, []byte("\n")) // with an empty one at the end
	sum := sha256.Sum256(bytes.Join(lines[:len(lines)-3], nil))
	want := ` "sha256": "` + hex.EncodeToString(sum[:]) + "\"\n"
	if diff := cmp.Diff(want, string(lines[len(lines)-3])); diff != "" {
		t.Error(diff)
	}
}

func TestWhatEncodeDidNotWriteIsRefused(t *testing.T) {
	resealed := func(body string) []byte { return document.Seal([]byte(body)) }
	cases := map[string][]byte{
		"nothing":                           nil,
		"a cut document":                    encode(t, sample{Name: "x"})[1:],
		"an unknown member":                 resealed("{\n \"name\": \"x\",\n \"other\": 1,\n"),
		"a member written in large letters": resealed("{\n \"NAME\": \"x\",\n"),
		"a member that is there twice":      resealed("{\n \"name\": \"x\",\n \"name\": \"x\",\n"),
		"other white space":                 resealed("{\n  \"name\": \"x\",\n"),
		"something behind the object":       resealed("{\n \"name\": \"x\"\n}\n{\n \"name\": \"x\",\n"),
		"a missing comma":                   resealed("{\n \"name\": \"x\"\n"),
		"a null":                            resealed("null,\n"),
		"a document that is too long":       encode(t, sample{Name: string(make([]byte, limit))}),
	}
	for name, data := range cases {
		t.Run(name, func(t *testing.T) {
			var got sample
			if err := document.Parse(data, limit, &got); !errors.Is(err, document.ErrDamaged) {
				t.Errorf("got %+v and %v", got, err)
			}
		})
	}
}

func TestAValueWithoutMembersIsNoDocument(t *testing.T) {
	for _, value := range []any{struct{}{}, []int{1}, 7} {
		if data, err := document.Encode(value); !errors.Is(err, document.ErrDamaged) {
			t.Errorf("%v: got %q and %v", value, data, err)
		}
	}
}
