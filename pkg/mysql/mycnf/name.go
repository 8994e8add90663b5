// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mycnf

import (
	"maps"
	"slices"
	"strings"
)

// modifiers may stand before the name of any option (manual: "Program Option
// Modifiers").
var modifiers = []string{"loose_", "skip_", "disable_", "enable_", "maximum_"}

// modified are options whose own name begins like a modifier.
var modified = map[string]bool{
	"enable_cascade_triggers":            true,
	"enable_secondary_engine_statistics": true,
	"skip_name_resolve":                  true,
	"skip_replica_start":                 true,
	"skip_show_database":                 true,
}

// Normalize returns the name under which an option is known here: trimmed,
// in lower case, with underscores, without leading dashes, and in the words
// that MySQL uses since 8.0.26 (source and replica). Modifiers such as loose_
// stay: Check refuses them. The result of an odd name is odd, but never holds
// an upper-case letter or a dash.
func Normalize(name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	name = strings.TrimLeft(strings.ReplaceAll(name, "-", "_"), "_")
	if alias, ok := aliases[name]; ok {
		return alias
	}
	return modernWords(name)
}

// modernWords replaces the former words for the two roles where they stand as
// words. Options with a former name that mysqld dropped without a successor
// stay unknown to it.
func modernWords(name string) string {
	words := strings.Split(name, "_")
	for i, word := range words {
		switch word {
		case "slave":
			words[i] = "replica"
		case "master":
			if strings.HasPrefix(name, "rpl_semi_sync_") {
				words[i] = "source"
			}
		}
	}
	return strings.Join(words, "_")
}

// Merge returns the options of both maps under their normalised names; over
// wins. When a map holds two spellings of one option, the one that sorts last
// wins, so that the result does not depend on the order of a map. Neither map
// is changed; both may be nil.
func Merge(base, over map[string]string) map[string]string {
	merged := make(map[string]string, len(base)+len(over))
	for _, options := range []map[string]string{base, over} {
		for _, name := range slices.Sorted(maps.Keys(options)) {
			merged[Normalize(name)] = options[name]
		}
	}
	return merged
}

// InitOnly reports whether an option counts only when the first instance of a
// cluster is initialised, so that it cannot be changed later.
func InitOnly(name string) bool { return initOnly[Normalize(name)] }

// bare takes one modifier away. It returns false when there is none.
func bare(name string) (string, bool) {
	if modified[name] {
		return name, false
	}
	for _, modifier := range modifiers {
		if rest, ok := strings.CutPrefix(name, modifier); ok {
			return Normalize(rest), true
		}
	}
	return name, false
}
