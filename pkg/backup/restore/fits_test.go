// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"errors"
	"strings"
	"testing"

	"github.com/moco-mysql/moco/pkg/backup/manifest"
)

func TestABackupFitsTheClusterOrIsRefused(t *testing.T) {
	const made = "[mysqld]\n# innodb_page_size = 4096\nlower_case_table_names = 0\n"
	for name, c := range map[string]struct {
		version, myCnf string
		alter          func(*manifest.Manifest)
		refused        string
	}{
		"the same version":                         {version: "/usr/sbin/mysqld  Ver 9.7.4 for Linux on x86_64", myCnf: made},
		"a newer version":                          {version: "Ver 9.8.0", myCnf: made},
		"an older version":                         {version: "Ver 9.7.3", refused: "older"},
		"a version that is none":                   {version: "unknown", refused: "not known"},
		"nobody asks":                              {},
		"another page size":                        {myCnf: "innodb-page-size=8k\n", refused: "innodb_page_size"},
		"the same page size in another spelling":   {myCnf: "innodb_page_size = \"16K\"\n"},
		"names in small letters":                   {myCnf: "lower_case_table_names=1\n", refused: "lower_case_table_names"},
		"a system tablespace of another form":      {myCnf: "innodb_data_file_path = \"ibdata1:24M:autoextend\"\n", refused: "innodb_data_file_path"},
		"a setting that the manifest is silent of": {myCnf: "lower_case_table_names=1\n", alter: func(m *manifest.Manifest) { m.Settings = nil }},
		"a dump": {alter: func(m *manifest.Manifest) { m.Method = manifest.Logical }, refused: "dump"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &manifest.Manifest{ID: "20261121T160500Z-0123abcd", Method: manifest.Physical, MySQLVersion: "9.7.4", Settings: map[string]string{
				"innodb_page_size": "16384", "lower_case_table_names": "0", "innodb_data_file_path": "ibdata1:12M:autoextend",
			}}
			if c.alter != nil {
				c.alter(m)
			}
			r := &Restore{cfg: Config{Version: c.version, MyCnf: c.myCnf}, manifest: m}
			err := r.fits()
			var refused *Refusal
			if (c.refused != "") != errors.As(err, &refused) || err != nil && !strings.Contains(err.Error(), c.refused) {
				t.Errorf("got %v, want a refusal that says %q", err, c.refused)
			}
		})
	}
}
