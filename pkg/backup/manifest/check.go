// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// ErrInvalid is wrapped by errors about a manifest that says something impossible. The text names the field.
var ErrInvalid = errors.New("invalid manifest")

var (
	idPattern      = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$`)
	attemptPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)
	sumPattern     = regexp.MustCompile(`^[0-9a-f]{64}$`)
	uuidPattern    = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	versionPattern = regexp.MustCompile(`^[0-9]{1,3}(\.[0-9]{1,3}){2}[0-9A-Za-z.+~_-]{0,64}$`)
	settingPattern = regexp.MustCompile(`^[A-Za-z0-9_.:;,/+-]{0,1000}$`)
	namePattern    = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
	partPattern    = regexp.MustCompile(`#part-[0-9]+$`)
)

// ValidID reports whether text is the id of a backup. What is not must never become a part of a key.
func ValidID(text string) bool { return idPattern.MatchString(text) }

func hexPrefix(uid string) string {
	digits := strings.Map(func(r rune) rune {
		if strings.ContainsRune("0123456789abcdef", r) {
			return r
		}
		return -1
	}, strings.ToLower(uid))
	return (digits + "00000000")[:8]
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

func (m *Manifest) check() error {
	return errors.Join(m.checkHead(), m.checkSettings(), m.checkContent(), m.checkTables())
}

func (m *Manifest) checkHead() error {
	set, err := gtid.Parse(m.GTIDExecuted)
	switch {
	case m.Version != Version:
		return invalid("version %d is not known, only %d is", m.Version, Version)
	case !ValidID(m.ID):
		return invalid("id %q", m.ID)
	case !attemptPattern.MatchString(m.Attempt):
		return invalid("attempt %q", m.Attempt)
	case !ValidCluster(m.Cluster):
		return invalid("cluster %q", m.Cluster)
	case !plainTime(m.CreatedAt):
		return invalid("createdAt %v", m.CreatedAt)
	case !plainTime(m.ConsistentAt):
		return invalid("consistentAt %v", m.ConsistentAt)
	case err != nil || set.String() != m.GTIDExecuted:
		return invalid("gtidExecuted is no set of GTIDs as a server prints it")
	case !versionPattern.MatchString(m.MySQLVersion):
		return invalid("mysqlVersion %q", m.MySQLVersion)
	case !uuidPattern.MatchString(m.ServerUUID):
		return invalid("serverUUID %q", m.ServerUUID)
	}
	return nil
}

// ValidCluster reports whether a key is made of names that keep below their folder.
func ValidCluster(key wire.ClusterKey) bool {
	return namePattern.MatchString(key.Namespace) && namePattern.MatchString(key.Name) && namePattern.MatchString(key.UID)
}

// plainTime reports whether a time is written in one way only: UTC, microseconds, years of four digits.
func plainTime(t time.Time) bool {
	return t.Location() == time.UTC && t.Equal(t.Truncate(time.Microsecond)) && t.Year() >= 1970 && t.Year() <= 9999
}

func (m *Manifest) checkSettings() error {
	for name, value := range m.Settings {
		if !slices.Contains(FixedSettings, name) || !settingPattern.MatchString(value) || strings.Contains(value, "..") {
			return invalid("settings: %q = %q", name, value)
		}
	}
	return nil
}

func (m *Manifest) checkTables() error {
	for n, t := range m.Tables {
		switch {
		case t.Schema == "" || t.Name == "" || t.Rows < 0:
			return invalid("tables[%d]: %q.%q with %d rows", n, t.Schema, t.Name, t.Rows)
		case n > 0 && compareTables(m.Tables[n-1], t) >= 0:
			return invalid("tables[%d]: %q.%q is not behind the one before", n, t.Schema, t.Name)
		}
	}
	return nil
}

func compareTables(a, b Table) int {
	if order := strings.Compare(a.Schema, b.Schema); order != 0 {
		return order
	}
	return strings.Compare(a.Name, b.Name)
}

// objectName is a name as it is in the store.
func (m *Manifest) objectName(name string) string {
	if m.Encrypted {
		return name + EncryptedSuffix
	}
	return name
}
