// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInsert(t *testing.T) {
	page := "above\n<!-- BEGIN x -->\nold\n<!-- END x -->\nbelow\n"
	cases := map[string]struct {
		text, name, want string
		wantErr          bool
	}{
		"what stands between the marks is replaced": {page, "x", "above\n<!-- BEGIN x -->\nnew\n<!-- END x -->\nbelow\n", false},
		"a block without a beginning is an error":   {page, "y", "", true},
		"a block without an end is an error":        {"<!-- BEGIN x -->\n", "x", "", true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := insert(c.text, c.name, "new\n\n")
			if (err != nil) != c.wantErr {
				t.Fatalf("insert: %v", err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestAPIReferenceTellsEveryField(t *testing.T) {
	crd := `
spec:
  group: example.com
  names: {kind: Thing, shortNames: [th], categories: [all]}
  versions:
  - name: v1
    schema:
      openAPIV3Schema:
        properties:
          spec:
            description: What is wanted.
            required: [size]
            properties:
              mode: {type: string, enum: [A, B], default: A, description: How.}
              size:
                type: object
                description: How large.
                properties:
                  width: {type: integer, minimum: 1, maximum: 9, description: "In metres | feet."}
                x-kubernetes-validations:
                - {rule: "true", message: size must fit}
          status: {description: What was found., properties: {}}
`
	got, err := apiReference([]byte(crd), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| `size` | [object](#specsize) | required | How large. |\n| `mode` |",
		"default `A`, one of `A`, `B`", "## spec.size", "- size must fit", "at least 1, at most 9", `In metres \| feet.`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
}

func TestRefusedOptionsAreReadFromTheirSource(t *testing.T) {
	source := `package x
type refusal struct{ reason, remedy string }
var (
	refusedA = refusal{"of a", "remove it"}
	refusedB = refusal{"of b", "remove it"}
)
var guarded = map[string]refusal{"two": refusedA, "one": refusedA, "three": refusedB}`
	got, err := refusedOptions([]byte(source))
	if err != nil {
		t.Fatal(err)
	}
	want := "| Because | Options |\n| --- | --- |\n| of a | `one`, `two` |\n| of b | `three` |\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, err := refusedOptions([]byte("package x")); err == nil {
		t.Error("a source without the table is no error")
	}
}

func TestEveryDerivedOptionHasItsFormula(t *testing.T) {
	got, err := derivedOptions()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got, "`innodb_buffer_pool_size`") {
		t.Errorf("the buffer pool is missing in\n%s", got)
	}
}

func TestGroupsOfTheOptionFileAreFound(t *testing.T) {
	for name, head := range map[string]string{
		"the defaults": sectionDefaults, "the derived sizes": sectionDerived, "the forced options": sectionForced, "those forced at the start": sectionBoot,
	} {
		t.Run(name, func(t *testing.T) {
			if len(group(rendered(1<<30, 1000), head)) == 0 {
				t.Errorf("no option stands below %q", head)
			}
		})
	}
}
