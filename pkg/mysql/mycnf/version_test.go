// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mycnf_test

import (
	"strings"
	"testing"

	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
)

func TestParseVersion(t *testing.T) {
	tests := map[string]struct {
		text string
		want mycnf.Version
	}{
		"what @@version says":           {"8.4.6", mycnf.Version{Major: 8, Minor: 4, Patch: 6}},
		"a build with a suffix":         {"9.7.4-2-debug", mycnf.Version{Major: 9, Minor: 7, Patch: 4}},
		"what mysqld --version says":    {"/usr/sbin/mysqld  Ver 9.7.4-1 for Linux on x86_64 ((Debian))", mycnf.Version{Major: 9, Minor: 7, Patch: 4}},
		"numbers with several digits":   {"10.11.12", mycnf.Version{Major: 10, Minor: 11, Patch: 12}},
		"the line ends with it":         {"mysqld Ver 8.4.0", mycnf.Version{Major: 8, Minor: 4}},
		"a build named after a plus":    {"8.4.3+deb", mycnf.Version{Major: 8, Minor: 4, Patch: 3}},
		"a path with a version is none": {"/opt/mysql-5.7.1/mysqld  Ver 8.4.6 for x", mycnf.Version{Major: 8, Minor: 4, Patch: 6}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := mycnf.ParseVersion(tt.text); err != nil || got != tt.want {
				t.Errorf("got %v and %v, want %v", got, err, tt.want)
			}
		})
	}
	for name, text := range map[string]string{
		"nothing": "", "two numbers": "8.4", "words": "a.b.c", "too large": "8.4.999999999999", "too long": strings.Repeat(" ", 2000) + "8.4.0",
	} {
		t.Run(name+" is no version", func(t *testing.T) {
			if got, err := mycnf.ParseVersion(text); err == nil {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestVersionsCompareByNumber(t *testing.T) {
	versions := []mycnf.Version{
		{Major: 8, Minor: 4},
		{Major: 8, Minor: 4, Patch: 9},
		{Major: 8, Minor: 4, Patch: 10},
		{Major: 9},
		{Major: 9, Minor: 7, Patch: 4},
		{Major: 10},
	}
	for i, a := range versions {
		for j, b := range versions {
			if got, want := a.Compare(b) < 0, i < j; got != want {
				t.Errorf("is %s older than %s: got %t", a, b, got)
			}
			if got, want := a.AtLeast(b), i >= j; got != want {
				t.Errorf("is %s at least %s: got %t", a, b, got)
			}
		}
	}
}
