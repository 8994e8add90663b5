// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

func TestASetIsPrintedAsAServerPrintsIt(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	sources := []gtid.Source{
		{UUID: "00000002-0000-4000-8000-3be8adde9115"}, {UUID: clusterUUID, Tag: "moco_e1"}, {UUID: clusterUUID, Tag: "moco_e12"}, {UUID: clusterUUID},
	}
	for range 200 {
		h, s := newHistory(), set{}
		for range 60 {
			x := h.begin(sources[rng.IntN(len(sources))], 1+rng.Int64N(30))
			if rng.IntN(3) > 0 {
				s.add(x)
			}
		}
		text := h.text(s)
		parsed, err := gtid.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(parsed.String(), text); diff != "" {
			t.Fatalf("a server prints it otherwise (-server, +simulator):\n%s", diff)
		}
		if diff := cmp.Diff(h.names(s), h.parse(text+" ")); diff != "" {
			t.Fatalf("it is read otherwise (-printed, +read):\n%s", diff)
		}
	}
}
