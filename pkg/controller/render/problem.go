// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"cmp"
	"slices"
	"strings"
)

// Problem is something in the spec that cannot be carried out, for condition Valid.
type Problem struct {
	// Field is the path of the field, from spec on.
	Field string
	// Reason says what is wrong with it.
	Reason string
	// Remedy says what to do instead.
	Remedy string
}

// String is the problem in one sentence.
func (p Problem) String() string {
	return p.Field + ": " + p.Reason + "; " + p.Remedy
}

// maxProblems bounds what is told at once.
const maxProblems = 16

// Problems is a list of at least one Problem, sorted by field, at most 16. It is the error of a spec the user must
// change: trying again does not help.
type Problems []Problem

// Error implements error.
func (p Problems) Error() string {
	texts := make([]string, 0, len(p))
	for _, problem := range p {
		texts = append(texts, problem.String())
	}
	return strings.Join(texts, ". ")
}

// asError sorts and bounds the list; nil when there is no problem.
func (p Problems) asError() error {
	if len(p) == 0 {
		return nil
	}
	slices.SortStableFunc(p, func(a, b Problem) int { return cmp.Compare(a.Field, b.Field) })
	p = slices.Compact(p)
	return p[:min(len(p), maxProblems)]
}
