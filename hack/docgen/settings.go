// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
)

// Beginnings of the comments that mycnf.Render puts above its groups of options.
const (
	sectionDefaults = "# Defaults"
	sectionDerived  = "# Derived"
	sectionForced   = "# Forced: "
	sectionBoot     = "# Forced at the start"
)

// option is one line of an option file.
type option struct{ name, value string }

// group returns the options below the comment that begins with head.
func group(text, head string) []option {
	var found []option
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			inside = strings.HasPrefix(line, head)
			continue
		}
		if name, value, ok := strings.Cut(line, " = "); ok && inside {
			found = append(found, option{name, value})
		}
	}
	return found
}

func rendered(memoryBytes, milliCPU int64) string {
	in := mycnf.DefaultInput()
	in.ServerID, in.Version, in.MemoryBytes, in.MilliCPU = 1, mycnf.MinVersion, memoryBytes, milliCPU
	return mycnf.Render(in)
}

// forcedOptions lists a group whose values do not depend on sizes.
func forcedOptions(head string) string {
	var rows [][]string
	for _, o := range group(rendered(1<<30, 1000), head) {
		rows = append(rows, []string{code(o.name), code(o.value)})
	}
	return table([]string{"Option", "Value"}, rows)
}

// formulas say how the derived sizes follow; M is the memory of the container in bytes, C its cores, rounded up.
var formulas = map[string]string{
	"innodb_buffer_pool_size":                    "of M above 160 MiB: 1/4 up to 512 MiB, 1/2 from there to 2 GiB, 2/3 to 8 GiB, 3/4 of the rest; rounded down to whole chunks times instances",
	"innodb_buffer_pool_chunk_size":              "8 MiB; 128 MiB once the pool has 1 GiB",
	"innodb_buffer_pool_instances":               "1; once the pool has 1 GiB, one for each GiB of it, at most C and 8",
	"innodb_redo_log_capacity":                   "a quarter of the buffer pool, 128 MiB to 4 GiB",
	"innodb_log_buffer_size":                     "M / 256, 4 to 64 MiB",
	"innodb_read_io_threads":                     "C, 2 to 8",
	"innodb_write_io_threads":                    "C, 2 to 8",
	"innodb_purge_threads":                       "C / 4, 1 to 4",
	"innodb_log_writer_threads":                  "ON from 32 cores",
	"max_connections":                            "a fifth of M at 2 MiB each, 25 to 4000",
	"table_open_cache":                           "one for each MiB of M, 400 to 4000",
	"table_open_cache_instances":                 "2 C, 2 to 16",
	"table_definition_cache":                     "400 and one for each 2 MiB of M, 528 to 2000",
	"key_buffer_size":                            "1 MiB: there are no MyISAM tables",
	"replica_parallel_workers":                   "2 C, at most 16 and one for each 128 MiB of M, at least 2",
	"replica_pending_jobs_size_max":              "M / 16, 16 to 128 MiB",
	"binlog_transaction_dependency_history_size": "one for each 16 KiB of M, 25 000 to 1 000 000",
	"tmp_table_size":                             "M / 256, 2 to 16 MiB",
	"max_heap_table_size":                        "as tmp_table_size",
	"internal_tmp_mem_storage_engine":            "MEMORY below 4 GiB of M; the server's default from there on",
	"temptable_max_ram":                          "from 4 GiB of M: M / 16, 1 to 4 GiB",
}

// examples are the containers that the table of derived sizes shows.
var examples = []struct {
	title    string
	memory   int64
	milliCPU int64
}{
	{"768 MiB, 1 core", 768 << 20, 1000}, {"4 GiB, 2 cores", 4 << 30, 2000}, {"16 GiB, 4 cores", 16 << 30, 4000}, {"64 GiB, 16 cores", 64 << 30, 16000},
}

// derivedOptions lists the sizes with their formulas and what comes out for some containers. It fails when an option has
// no formula here, or a formula no option. The small performance_schema of small containers is told in the text.
func derivedOptions() (string, error) {
	head := []string{"Option", "Formula"}
	columns := make([]map[string]string, 0, len(examples))
	var names []string
	for _, e := range examples {
		column := map[string]string{}
		for _, o := range group(rendered(e.memory, e.milliCPU), sectionDerived) {
			if strings.HasPrefix(o.name, "performance_schema") {
				continue
			}
			column[o.name] = o.value
			if !slices.Contains(names, o.name) {
				names = append(names, o.name)
			}
		}
		head, columns = append(head, e.title), append(columns, column)
	}
	var rows [][]string
	for _, name := range names {
		if formulas[name] == "" {
			return "", fmt.Errorf("the derived option %s has no formula in hack/docgen", name)
		}
		row := []string{code(name), formulas[name]}
		for _, column := range columns {
			row = append(row, size(column[name]))
		}
		rows = append(rows, row)
	}
	if len(names) != len(formulas) {
		return "", fmt.Errorf("hack/docgen has %d formulas for %d derived options", len(formulas), len(names))
	}
	return table(head, rows), nil
}

// size prints whole numbers of KiB, MiB and GiB as such.
func size(value string) string {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return value
	}
	for _, unit := range []struct {
		bytes int64
		name  string
	}{{1 << 30, " GiB"}, {1 << 20, " MiB"}} {
		if n >= unit.bytes && n%unit.bytes == 0 {
			return strconv.FormatInt(n/unit.bytes, 10) + unit.name
		}
	}
	return value
}

// refusedOptions reads the table of refused options from its source, because the package has no use for listing it.
func refusedOptions(source []byte) (string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "guarded.go", source, 0)
	if err != nil {
		return "", fmt.Errorf("reading the refused options: %w", err)
	}
	reasons, byReason := map[string]string{}, map[string][]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Names) != 1 || len(spec.Values) != 1 {
			return true
		}
		literal, ok := spec.Values[0].(*ast.CompositeLit)
		if !ok {
			return true
		}
		if kind, ok := literal.Type.(*ast.Ident); ok && kind.Name == "refusal" && len(literal.Elts) == 2 {
			reasons[spec.Names[0].Name] = unquoted(literal.Elts[0])
		}
		if spec.Names[0].Name == "guarded" {
			collect(literal, byReason)
		}
		return true
	})
	var rows [][]string
	for _, reason := range slices.Sorted(maps.Keys(byReason)) {
		if reasons[reason] == "" {
			return "", fmt.Errorf("reading the refused options: %s has no reason", reason)
		}
		slices.Sort(byReason[reason])
		rows = append(rows, []string{reasons[reason], codes(byReason[reason])})
	}
	if len(rows) == 0 {
		return "", errors.New("reading the refused options: there is no table named guarded")
	}
	return table([]string{"Because", "Options"}, rows), nil
}

// collect sorts the entries of the table by the name of their reason.
func collect(literal *ast.CompositeLit, byReason map[string][]string) {
	for _, element := range literal.Elts {
		pair, ok := element.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		if reason, ok := pair.Value.(*ast.Ident); ok {
			byReason[reason.Name] = append(byReason[reason.Name], unquoted(pair.Key))
		}
	}
}

func unquoted(e ast.Expr) string {
	literal, ok := e.(*ast.BasicLit)
	if !ok {
		return ""
	}
	text, err := strconv.Unquote(literal.Value)
	if err != nil {
		return ""
	}
	return text
}
