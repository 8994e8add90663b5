// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/backup/wire"
)

func TestTablesAreSelectedByNameOrSchema(t *testing.T) {
	t.Parallel()
	there := []*table{{schema: "a", name: "t"}, {schema: "a", name: "u"}, {schema: "b", name: "t"}, {schema: "b", name: "x.y"}, {schema: "mysql", name: "user"}}
	tests := map[string]struct {
		names   []string
		into    string
		want    []string
		refused string
	}{
		"one table":                        {names: []string{"a.t"}, want: []string{"`p_0`.`t` TO `a`.`t`"}},
		"a schema":                         {names: []string{"a"}, want: []string{"`p_0`.`t` TO `a`.`t`", "`p_0`.`u` TO `a`.`u`"}},
		"a schema and a table of it":       {names: []string{"a", "a.t"}, want: []string{"`p_0`.`t` TO `a`.`t`", "`p_0`.`u` TO `a`.`u`"}},
		"tables of two schemas":            {names: []string{"a.t", "b.t"}, want: []string{"`p_0`.`t` TO `a`.`t`", "`p_1`.`t` TO `b`.`t`"}},
		"into another schema":              {names: []string{"a.u", "b.t"}, into: "c", want: []string{"`p_0`.`u` TO `c`.`u`", "`p_1`.`t` TO `c`.`t`"}},
		"a name with a dot":                {names: []string{"b.x.y"}, want: []string{"`p_0`.`x.y` TO `b`.`x.y`"}},
		"two that would meet":              {names: []string{"a", "b"}, into: "c", refused: "`c`.`t`"},
		"one that is not there":            {names: []string{"a.t", "a.v"}, refused: `"a.v"`},
		"a schema that is not there":       {names: []string{"c"}, refused: `"c"`},
		"another case is another table":    {names: []string{"A.t"}, refused: `"A.t"`},
		"a part of a name is no name":      {names: []string{"b.x"}, refused: `"b.x"`},
		"one schema without any table":     {names: []string{"a", "empty"}, refused: `"empty"`},
		"a table by its bare name is none": {names: []string{"t"}, refused: `"t"`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found, err := selectTables(&wire.Tables{Names: tc.names, Into: tc.into}, "p", there)
			if (err != nil) != (tc.refused != "") || (err != nil && !strings.Contains(err.Error(), tc.refused)) {
				t.Fatalf("error %v, want one that names %q", err, tc.refused)
			}
			var got []string
			for _, c := range found {
				got = append(got, c.loaded()+" TO "+c.target())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("tables (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOldTablesLeaveBeforeNewOnesComeAndTheEndIsNotedWithThem(t *testing.T) {
	t.Parallel()
	r := &recipient{schema: schemaOf("0a1b2c3d-1111"), replace: true}
	tables := []*chosen{
		{table: &table{schema: "a", name: "t"}, into: "a", draft: "p_0"}, {table: &table{schema: "a", name: "u"}, into: "a", draft: "p_0"},
	}
	want := "RENAME TABLE `a`.`u` TO `moco_restore_0a1b2c3d_old`.`1`, `p_0`.`t` TO `a`.`t`, `p_0`.`u` TO `a`.`u`, " +
		"`moco_restore_0a1b2c3d`.`pending` TO `moco_restore_0a1b2c3d`.`done`"
	if diff := cmp.Diff(want, r.renames(tables, occupants{"`a`.`u`": true})); diff != "" {
		t.Errorf("statement (-want +got):\n%s", diff)
	}
}

func TestTheLoginIsInAFileThatOnlyTheJobReads(t *testing.T) {
	t.Parallel()
	j := &job{cfg: Config{WorkDir: t.TempDir()}, in: &wire.JobInput{Primary: "db.shop.svc:3306", User: "root", Password: `a\b"c#d`, CA: "PEM"}}
	path, err := j.writeLogin()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 || !strings.Contains(string(text), `password="a\\b"c#d"`) || !strings.Contains(string(text), `ssl-mode="VERIFY_IDENTITY"`) {
		t.Errorf("mode %v, text\n%s", info.Mode(), text)
	}
	j.in.Password = "a\nssl-mode=DISABLED"
	if _, err := j.writeLogin(); err == nil {
		t.Error("a password with a line break was written")
	}
}
