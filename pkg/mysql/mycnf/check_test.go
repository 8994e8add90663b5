// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mycnf_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
)

func TestNormalize(t *testing.T) {
	tests := map[string]struct{ name, want string }{
		"dashes and capitals do not matter":         {"Max-Connections", "max_connections"},
		"leading dashes of the command line vanish": {"--max-connections", "max_connections"},
		"blanks around the name vanish":             {" max_connections\t", "max_connections"},
		"the former word for a replica":             {"slave-net-timeout", "replica_net_timeout"},
		"the former word behind a modifier":         {"loose_log-slave-updates", "loose_log_replica_updates"},
		"the former names of semi-sync":             {"rpl_semi_sync_master_enabled", "rpl_semi_sync_source_enabled"},
		"a former name of its own":                  {"sync_master_info", "sync_source_info"},
		"master stays where it means another thing": {"binlog_rotate_encryption_master_key_at_startup", "binlog_rotate_encryption_master_key_at_startup"},
		"a modifier stays":                          {"skip-log-bin", "skip_log_bin"},
		"nothing stays nothing":                     {"--", ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := mycnf.Normalize(tc.name); got != tc.want {
				t.Errorf("Normalize(%q) is %q, want %q", tc.name, got, tc.want)
			}
		})
	}
}

func TestMergeNormalizesAndLetsTheSecondWin(t *testing.T) {
	base := map[string]string{"Max-Connections": "1", "max_connections": "2", "sql_mode": "ANSI"}
	over := map[string]string{"max-connections": "3", "slave_parallel_workers": "4"}
	want := map[string]string{"max_connections": "3", "sql_mode": "ANSI", "replica_parallel_workers": "4"}
	if diff := cmp.Diff(want, mycnf.Merge(base, over)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"max_connections": "2", "sql_mode": "ANSI"}, mycnf.Merge(base, nil)); diff != "" {
		t.Error("of two spellings the last in order wins:", diff)
	}
	if len(base) != 3 || len(over) != 2 {
		t.Error("the arguments were changed")
	}
}

func TestInitOnly(t *testing.T) {
	for name, want := range map[string]bool{"Lower-Case-Table-Names": true, "innodb_page_size": true, "max_connections": false} {
		if got := mycnf.InitOnly(name); got != want {
			t.Errorf("InitOnly(%q) is %t", name, got)
		}
	}
}

func TestCheckTakesWhatIsTheUsers(t *testing.T) {
	options := map[string]string{
		"max_connections": "500", "innodb-buffer-pool-size": "4G", "sql_mode": "", "Long_Query_Time": "0.5",
		"innodb_flush_method": "O_DIRECT_NO_FSYNC", "binlog_row_image": "MINIMAL", "slow_query_log": "OFF",
		"skip_show_database": "ON", "slave_parallel_workers": "8",
		"lower_case_table_names": "1", "init_connect": `SET NAMES 'utf8mb4' # "x"`, "time_zone_unknown": "x",
		"enable_cascade_triggers": "ON", "character_set_server": "latin1", "require_secure_transport": "ON",
	}
	if problems := mycnf.Check(options); problems != nil {
		t.Errorf("refused: %+v", problems)
	}
	if problems := mycnf.Check(nil); problems != nil {
		t.Errorf("nothing was refused: %+v", problems)
	}
}

func TestCheckRefuses(t *testing.T) {
	tests := map[string]struct{ name, value string }{
		"a forced option":                             {"sync_binlog", "1"},
		"the right to make triggers and functions":    {"log_bin_trust_function_creators", "OFF"},
		"a forced option with dashes and capitals":    {"Sync-Binlog", "0"},
		"a forced option as on the command line":      {"--sync-binlog", "0"},
		"a forced option that is loose":               {"loose_sync_binlog", "0"},
		"a forced option that is loose twice":         {"loose-loose_sync-binlog", "0"},
		"a forced option that is skipped":             {"skip-log-bin", ""},
		"a forced option that is skipped and loose":   {"loose-skip-log-bin", ""},
		"a forced option that is disabled":            {"disable_gtid_mode", ""},
		"a forced option that is enabled":             {"enable-event-scheduler", ""},
		"the maximum of a forced option":              {"maximum_max_allowed_packet", "1M"},
		"a forced option under its former name":       {"log_slave_updates", "OFF"},
		"a forced option without its own skip":        {"name_resolve", "ON"},
		"the start of replication":                    {"skip_slave_start", "OFF"},
		"the switch of a plugin":                      {"rpl_semi_sync_master_enabled", "OFF"},
		"the activation of a plugin":                  {"rpl_semi_sync_source", "OFF"},
		"a filter of the binary log":                  {"binlog-ignore-db", "x"},
		"a filter of replication":                     {"replicate_wild_ignore_table", "x.%"},
		"errors to skip":                              {"slave-skip-errors", "all"},
		"a file that runs at the start":               {"init_file", "/tmp/x"},
		"the data directory":                          {"datadir", "/tmp"},
		"a certificate":                               {"ssl_cert", "/tmp/x"},
		"the administrative interface":                {"admin_ssl_cert", "/tmp/x"},
		"an unsafe flush method":                      {"innodb_flush_method", "nosync"},
		"the beginning of an unsafe flush method":     {"innodb_flush_method", "nosy"},
		"the number of an unsafe flush method":        {"innodb_flush_method", "3"},
		"no doublewrite":                              {"innodb_doublewrite", "OFF"},
		"a modifier of an option that is the user's":  {"skip_slow_query_log", ""},
		"a loose option that is the user's":           {"loose_max_connections", "5"},
		"a line feed in the value":                    {"max_connections", "5\nsync_binlog=0"},
		"a carriage return in the value":              {"max_connections", "5\rsync_binlog=0"},
		"a null byte in the value":                    {"max_connections", "5\x00"},
		"a value that is not UTF-8":                   {"init_connect", "\xff"},
		"a value that is longer than a line":          {"init_connect", strings.Repeat("x", 5000)},
		"a name that is longer than a line":           {strings.Repeat("x", 5000), ""},
		"a name with an equals sign":                  {"max_connections=5", ""},
		"a name with a line feed":                     {"max_connections\nsync_binlog", "0"},
		"a name that begins another group":            {"[client]", ""},
		"a name that includes a file":                 {"!include", "/tmp/x"},
		"a name that is a comment":                    {"#x", ""},
		"no name":                                     {"", "x"},
		"a plugin to load":                            {"plugin-load-add", "x.so"},
		"autocommit, which the operator's use":        {"autocommit", "OFF"},
		"memory of the node":                          {"innodb_dedicated_server", "ON"},
		"a mode in which it does not serve":           {"initialize-insecure", "ON"},
		"persisted variables":                         {"persisted-globals-load", "ON"},
		"an option of a plugin that is not supported": {"group_replication_start_on_boot", "ON"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			options := map[string]string{tc.name: tc.value, "long_query_time": "7"}
			problems := mycnf.Check(options)
			if len(problems) != 1 || problems[0].Reason == "" || problems[0].Remedy == "" {
				t.Fatalf("Check says %+v", problems)
			}
			if len(tc.name) < 100 && problems[0].Option != tc.name {
				t.Errorf("it names %q", problems[0].Option)
			}
			in := mycnf.DefaultInput()
			want := mycnf.Render(withUser(in, map[string]string{"long_query_time": "7"}))
			if diff := cmp.Diff(want, mycnf.Render(withUser(in, options))); diff != "" {
				t.Errorf("Render does not leave it out:\n%s", diff)
			}
		})
	}
}

func withUser(in mycnf.Input, options map[string]string) mycnf.Input {
	in.User = options
	return in
}

func TestCheckIsBounded(t *testing.T) {
	many := map[string]string{}
	for i := range mycnf.MaxOptions + 1 {
		many[fmt.Sprintf("option_%d", i)] = ""
	}
	if problems := mycnf.Check(many); len(problems) != 1 {
		t.Errorf("%d problems", len(problems))
	}
	bad := map[string]string{}
	for i := range mycnf.MaxOptions {
		bad[fmt.Sprintf("loose_option_%d", i)] = ""
	}
	if problems := mycnf.Check(bad); len(problems) == 0 || len(problems) > 20 {
		t.Errorf("%d problems", len(problems))
	}
}

func TestNoRenderedOptionButTheUsersMayBeSetByTheUser(t *testing.T) {
	text := mycnf.Render(mycnf.DefaultInput())
	_, forced, _ := strings.Cut(text, "# The layout of the instance.")
	for line := range strings.Lines(forced) {
		name, value, found := strings.Cut(strings.TrimSpace(line), " = ")
		if found && mycnf.Check(map[string]string{name: value}) == nil {
			t.Errorf("%s is the operator's, and Check lets it pass", name)
		}
	}
	for name, value := range mycnf.Forced(mycnf.MinVersion) {
		if !strings.Contains(forced, "\n"+name+" = "+value+"\n") && !strings.Contains(forced, "\n"+name+" = \""+value+"\"\n") {
			t.Errorf("%s=%s is forced and not rendered", name, value)
		}
	}
}

// TestSizesFitTheContainer bounds what the derived sizes sum up to, for every
// size of container that there is.
func TestSizesFitTheContainer(t *testing.T) {
	for memory := int64(256 << 20); memory <= 2<<40; memory += memory / 7 {
		got := derived(t, memory)
		const mysqldItself = 160 << 20
		sum := got["innodb_buffer_pool_size"] + got["innodb_log_buffer_size"] + max(got["temptable_max_ram"], 20*got["tmp_table_size"]) + mysqldItself +
			got["max_connections"]<<19
		if sum > memory {
			t.Errorf("in %d MiB the sizes sum up to %d MiB", memory>>20, sum>>20)
		}
		if unit := got["innodb_buffer_pool_chunk_size"] * got["innodb_buffer_pool_instances"]; got["innodb_buffer_pool_size"]%unit != 0 {
			t.Errorf("in %d MiB mysqld would round the buffer pool up", memory>>20)
		}
	}
}

func derived(t *testing.T, memory int64) map[string]int64 {
	t.Helper()
	in := mycnf.DefaultInput()
	in.MemoryBytes, in.MilliCPU = memory, memory>>20
	sizes := map[string]int64{}
	for line := range strings.Lines(mycnf.Render(in)) {
		var value int64
		name, text, _ := strings.Cut(line, " = ")
		if n, _ := fmt.Sscanf(text, "%d", &value); n == 1 {
			sizes[name] = value
		}
	}
	return sizes
}

func TestSizesOfBadInputAreThoseOfTheLeast(t *testing.T) {
	for _, memory := range []int64{-1 << 62, 0, 1, mycnf.MinMemoryBytes} {
		if diff := cmp.Diff(derived(t, mycnf.MinMemoryBytes)["innodb_buffer_pool_size"], derived(t, memory)["innodb_buffer_pool_size"]); diff != "" {
			t.Errorf("%d bytes: %s", memory, diff)
		}
	}
}

// FuzzRender hands in options that nobody checked and reads the text as mysqld
// does: every line is known, none is too long, and what is forced comes last.
func FuzzRender(f *testing.F) {
	f.Add("max_connections", "5", "sync-binlog", "0")
	f.Add("x\nsync_binlog", "0\nsync_binlog=0", "loose_skip_log_bin", "")
	f.Add("init_connect", `a"b'c\n#d\`, "!include", strings.Repeat(`"`, 5000))
	in := mycnf.DefaultInput()
	_, tail, found := strings.Cut(mycnf.Render(in), "\n# The layout of the instance.")
	if !found {
		f.Fatal("the forced options are not found")
	}
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		options := map[string]string{name1: value1, name2: value2}
		text := mycnf.Render(withUser(in, options))
		head, ok := strings.CutSuffix(text, "\n# The layout of the instance."+tail)
		if !ok {
			t.Fatalf("the forced options changed:\n%s", text)
		}
		_, user, _ := strings.Cut(head, "\n# Set by the user.\n")
		want := map[string]string{}
		for _, name := range slices.Sorted(maps.Keys(options)) {
			if len(mycnf.Check(map[string]string{name: options[name]})) == 0 {
				want[mycnf.Normalize(name)] = options[name]
			}
		}
		if diff := cmp.Diff(want, parse(t, user)); diff != "" {
			t.Errorf("mysqld would read (-want +got):\n%s\nof\n%s", diff, user)
		}
	})
}

// parse reads lines as mysqld reads an option file (manual: "Using Option
// Files"; mysys/my_default.cc).
func parse(t *testing.T, text string) map[string]string {
	t.Helper()
	options := map[string]string{}
	for line := range strings.Lines(text) {
		if len(line) > 4094 {
			t.Errorf("a line has %d bytes", len(line))
		}
		name, value, found := strings.Cut(strings.TrimSuffix(uncomment(line), "\n"), " = ")
		if !found {
			t.Errorf("%q is not an option with a value", line)
		}
		value = strings.TrimFunc(value, func(r rune) bool { return strings.ContainsRune(" \t\v\f\r", r) })
		if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
			value = value[1 : n-1]
		}
		options[name] = unescape(value)
	}
	return options
}

// uncomment cuts a line at the first # outside of quotes.
func uncomment(line string) string {
	var quote byte
	escaped := false
	for i := range len(line) {
		c := line[i]
		switch {
		case (c == '\'' || c == '"') && !escaped && quote == 0:
			quote = c
		case (c == '\'' || c == '"') && !escaped && quote == c:
			quote = 0
		case quote == 0 && c == '#':
			return line[:i]
		}
		escaped = quote != 0 && c == '\\' && !escaped
	}
	return line
}

func unescape(value string) string {
	known := map[byte]byte{'n': '\n', 't': '\t', 'r': '\r', 'b': '\b', 's': ' ', '"': '"', '\'': '\'', '\\': '\\'}
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		if value[i] == '\\' && i+1 < len(value) {
			if c, ok := known[value[i+1]]; ok {
				b.WriteByte(c)
				i++
				continue
			}
		}
		b.WriteByte(value[i])
	}
	return b.String()
}
