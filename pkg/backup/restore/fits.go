// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"strconv"
	"strings"

	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
)

// initialised are the settings that mysqld refuses to change on existing data, with the values it takes by itself on Linux.
// The others that a manifest names need not be the same.
var initialised = map[string]string{
	"innodb_data_file_path":  "ibdata1:12M:autoextend",
	"innodb_page_size":       "16384",
	"lower_case_table_names": "0",
}

// fits refuses a backup that the mysqld which is to run it cannot run.
func (r *Restore) fits() error {
	m := r.manifest
	if m.Method != manifest.Physical {
		return refuse("backup %s is a dump; it is loaded with a MySQL client, not restored", m.ID)
	}
	if r.cfg.Version != "" {
		image, err := mycnf.ParseVersion(r.cfg.Version)
		if err != nil {
			return refuse("the version of MySQL in the image is not known: %v", err)
		}
		made, err := mycnf.ParseVersion(m.MySQLVersion)
		if err != nil {
			return refuse("the version of MySQL of backup %s is not known: %v", m.ID, err)
		}
		if !image.AtLeast(made) {
			return refuse("backup %s was made by MySQL %s, and the image holds the older MySQL %s", m.ID, made, image)
		}
	}
	if r.cfg.MyCnf == "" {
		return nil
	}
	options := assignments(r.cfg.MyCnf)
	for name, otherwise := range initialised {
		here, set := options[name]
		if !set {
			here = otherwise
		}
		there, known := m.Settings[name]
		if known && !same(here, there) {
			return refuse("backup %s was made with %s = %s, and this cluster has %s; it is fixed when data are first made", m.ID, name, there, here)
		}
	}
	return nil
}

// assignments are the options of an option file, the last one of each name.
func assignments(text string) map[string]string {
	options := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		name, value, assigned := strings.Cut(line, "=")
		if assigned && !strings.HasPrefix(line, "#") {
			options[mycnf.Normalize(strings.TrimSpace(name))] = strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	return options
}

// same compares values as mysqld takes them: sizes may have a suffix.
func same(a, b string) bool { return strings.EqualFold(plain(a), plain(b)) }

func plain(value string) string {
	for suffix, factor := range map[string]int64{"k": 1 << 10, "m": 1 << 20} {
		digits, cut := strings.CutSuffix(strings.ToLower(value), suffix)
		if n, err := strconv.ParseInt(digits, 10, 32); cut && err == nil {
			return strconv.FormatInt(n*factor, 10)
		}
	}
	return value
}
