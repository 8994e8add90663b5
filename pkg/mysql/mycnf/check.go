// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mycnf

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Bounds of what a user may set. mysqld reads an option file in lines of 4096
// bytes and takes the rest of a longer one for another option; escaping at
// most doubles a value.
const (
	// MaxOptions is the number of options.
	MaxOptions = 500
	// MaxNameBytes is the length of a name.
	MaxNameBytes = 128
	// MaxValueBytes is the length of a value.
	MaxValueBytes = 1024
)

// maxProblems bounds what Check returns.
const maxProblems = 20

// namePattern is what every option of mysqld looks like, once normalised.
var namePattern = regexp.MustCompile(`^[a-z][a-z0-9_]*[a-z0-9]$`)

// Problem is an option that a user may not set, or not to this value.
type Problem struct {
	// Option is the name as the user wrote it, shortened if it is too long.
	Option string
	// Reason says what is wrong, Remedy what to do; both are clauses without a
	// capital or a full stop.
	Reason, Remedy string
}

// Check returns what is wrong with the options of a user, in the order of
// their names, at most 20 problems. Options it does not know are not a
// problem: mysqld itself judges those. Names need not be normalised. nil
// means that Render uses every option.
func Check(options map[string]string) []Problem {
	if len(options) > MaxOptions {
		return []Problem{{
			Option: "*", Reason: fmt.Sprintf("there are %d options, and %d are allowed", len(options), MaxOptions), Remedy: "set fewer",
		}}
	}
	var problems []Problem
	for _, name := range slices.Sorted(maps.Keys(options)) {
		why, refused := judge(name, options[name])
		if refused && len(problems) < maxProblems {
			problems = append(problems, Problem{Option: shorten(name), Reason: why.reason, Remedy: why.remedy})
		}
	}
	return problems
}

// shorten makes a name fit for a message.
func shorten(name string) string {
	if len(name) > MaxNameBytes {
		name = name[:MaxNameBytes] + "…"
	}
	return strings.ToValidUTF8(name, "?")
}

// judge tells whether an option is refused, and why.
func judge(name, value string) (refusal, bool) {
	if len(name) > MaxNameBytes {
		return refusal{fmt.Sprintf("the name is longer than %d bytes", MaxNameBytes), "correct it"}, true
	}
	normal := Normalize(name)
	if !namePattern.MatchString(normal) {
		return refusal{"this is not the name of an option", "use letters, digits, - and _"}, true
	}
	if why, refused := judgeName(normal); refused {
		return why, true
	}
	return judgeValue(normal, value)
}

// judgeName refuses guarded options under any modifier, and then modifiers.
func judgeName(name string) (refusal, bool) {
	core, changed := name, true
	for changed {
		if why, refused := guard(core); refused {
			return why, true
		}
		core, changed = bare(core)
	}
	if core != name {
		return refusal{"modifiers such as loose_ or skip_ are not taken", fmt.Sprintf("set %s itself, for example to OFF", core)}, true
	}
	return refusal{}, false
}

// guard tells whether a name without modifiers is the operator's.
func guard(name string) (refusal, bool) {
	if isForced(name) {
		return refusedForced, true
	}
	if why, ok := guarded[name]; ok {
		return why, true
	}
	for _, family := range guardedFamilies {
		if strings.HasPrefix(name, family.prefix) {
			return family.why, true
		}
	}
	return refusal{}, false
}

func isForced(name string) bool {
	same := func(s setting) bool { return s.name == name || s.name == "skip_"+name }
	return slices.ContainsFunc(forcedAlways, same) || slices.ContainsFunc(forcedAtBoot, same)
}

// judgeValue refuses values that cannot be written into an option file or
// that are unsafe.
func judgeValue(name, value string) (refusal, bool) {
	if len(value) > MaxValueBytes {
		return refusal{fmt.Sprintf("the value is longer than %d bytes", MaxValueBytes), "shorten it"}, true
	}
	if strings.ContainsFunc(value, isControl) || strings.ToValidUTF8(value, "") != value {
		return refusal{"the value holds a control character or is not UTF-8", "write it in one line of plain text"}, true
	}
	allowed, bounded := values[name]
	if bounded && !slices.ContainsFunc(allowed, func(a string) bool { return strings.EqualFold(a, strings.TrimSpace(value)) }) {
		return refusal{fmt.Sprintf("%q is not a safe value", value), "use one of " + strings.Join(allowed, ", ")}, true
	}
	if name == "default_time_zone" && !zonePattern.MatchString(strings.ToUpper(value)) {
		return refusal{fmt.Sprintf("%q is neither SYSTEM nor an offset", value), "write an offset such as +02:00, and let applications SET time_zone to a named zone"}, true
	}
	return refusal{}, false
}

// isControl reports control characters, of which a line feed would begin
// another option. Those of Unicode that end a line for some readers count.
func isControl(r rune) bool {
	return r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029'
}
