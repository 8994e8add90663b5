// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mycnf

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
)

// Version is a MySQL server version. Compare it; never look at its text.
type Version struct {
	Major, Minor, Patch int
}

// MinVersion is the oldest server the product runs.
var MinVersion = Version{Major: 8, Minor: 4}

// versionPattern finds the version in what @@version and `mysqld --version`
// say. The numbers are short enough for any int.
var versionPattern = regexp.MustCompile(`(?:^|\s)(\d{1,5})\.(\d{1,5})\.(\d{1,5})(?:$|[-+~\s])`)

// maxVersionText bounds the text that ParseVersion looks at, in bytes.
const maxVersionText = 1024

// ParseVersion reads the version out of the value of @@version
// ("8.4.6-debug") or a line of `mysqld --version` ("/usr/sbin/mysqld  Ver
// 9.7.4 for Linux …"). What stands behind the third number is ignored.
func ParseVersion(text string) (Version, error) {
	if len(text) > maxVersionText {
		return Version{}, fmt.Errorf("parsing MySQL version: text of %d bytes is too long", len(text))
	}
	found := versionPattern.FindStringSubmatch(text)
	if found == nil {
		return Version{}, fmt.Errorf("parsing MySQL version: no x.y.z in %q", text)
	}
	var numbers [3]int
	for i := range numbers {
		n, err := strconv.Atoi(found[i+1])
		if err != nil {
			return Version{}, fmt.Errorf("parsing MySQL version %q: %w", text, err)
		}
		numbers[i] = n
	}
	return Version{Major: numbers[0], Minor: numbers[1], Patch: numbers[2]}, nil
}

// Compare is negative when v is older than other, zero when they are equal and
// positive when v is newer.
func (v Version) Compare(other Version) int {
	return cmp.Or(
		cmp.Compare(v.Major, other.Major),
		cmp.Compare(v.Minor, other.Minor),
		cmp.Compare(v.Patch, other.Patch),
	)
}

// AtLeast tells whether v is other or newer.
func (v Version) AtLeast(other Version) bool { return v.Compare(other) >= 0 }

// String is the version as "major.minor.patch".
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }
