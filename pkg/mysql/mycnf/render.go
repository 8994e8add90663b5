// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mycnf

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Input is what the option file of one instance is made from.
type Input struct {
	// ServerID is unique among all instances that may replicate from each
	// other; it must not be 0.
	ServerID uint32
	// ReportHost is the DNS name under which the instance reports itself to its
	// primary, at most 255 bytes; "" leaves it out.
	ReportHost string
	// MemoryBytes is the memory of the container mysql; less than
	// MinMemoryBytes counts as that. MilliCPU is its CPU in thousandths of a
	// core; 0 means unknown.
	MemoryBytes, MilliCPU int64
	// Version of mysqld; MinVersion or newer.
	Version Version
	// User are the options of the user. What Check refuses is left out.
	User map[string]string

	// DataDir, TmpDir, Socket, PidFile and SlowLog are absolute paths in the
	// container mysql.
	DataDir, TmpDir, Socket, PidFile, SlowLog string
	// TLSCA, TLSCertificate and TLSKey are absolute paths of PEM files.
	TLSCA, TLSCertificate, TLSKey string
	// Port is mysqld's for clients, AdminAddress and AdminPort are those of the
	// administrative interface.
	Port, AdminPort int
	AdminAddress    string
}

// DefaultInput returns an Input with every path, port and address as the Pod of
// an instance has them. The rest is to be filled in.
func DefaultInput() Input {
	return Input{
		DataDir:        "/data/mysql/data",
		TmpDir:         "/data/mysql/tmp",
		Socket:         "/run/moco/mysqld.sock",
		PidFile:        "/run/moco/mysqld.pid",
		SlowLog:        "/data/mysql/log/slow.log",
		TLSCA:          "/data/mysql/moco/ca.pem",
		TLSCertificate: "/data/mysql/moco/cert.pem",
		TLSKey:         "/data/mysql/moco/key.pem",
		Port:           3306,
		AdminAddress:   "127.0.0.1",
		AdminPort:      33062,
	}
}

// defaults are production settings that a user may override.
var defaults = []setting{
	{"character_set_server", "utf8mb4"},
	// A named zone would depend on tables that a clone replaces, and SYSTEM
	// takes a lock at every conversion.
	{"default_time_zone", "+00:00"},
	{"slow_query_log", "ON"},
	{"long_query_time", "1"},
	{"log_slow_extra", "ON"},
	{"log_error_verbosity", "2"},
	{"innodb_print_all_deadlocks", "ON"},
	// Each call that interleaves memory fails, and is logged, under the seccomp
	// profile of a container; builds without NUMA do not know the option.
	{"loose_innodb_numa_interleave", "OFF"},
	{"max_connect_errors", "1000000"},
	{"max_binlog_size", "268435456"},
	{"sync_relay_log", "10000"},
	{"rpl_read_size", "65536"},
}

// Render returns the option file of an instance: defaults, derived sizes, the
// user's options in the order of their names, and the forced options. It is
// deterministic. Options of the user that Check refuses are left out, so the
// text is safe even for input that nobody checked.
func Render(in Input) string {
	user := acceptable(in.User)
	var b strings.Builder
	b.WriteString("# Made by the operator; changes are overwritten. MySQL " + in.Version.String() + ".\n[mysqld]\n")
	section(&b, "Defaults for production; each may be overridden.", without(defaults, user))
	section(&b, fmt.Sprintf("Derived from %d MiB of memory and %d thousandths of a core; each may be overridden.",
		in.MemoryBytes/mib, in.MilliCPU), without(derive(in.MemoryBytes, in.MilliCPU), user))
	section(&b, "Set by the user.", sorted(user))
	section(&b, "The layout of the instance.", layout(&in))
	section(&b, "The plugins of replication and clone.", plugins())
	section(&b, "Forced: what replication and the separation of tenants rest on.", forcedAlways)
	section(&b, "Forced at the start: an instance without its agent serves nobody.", forcedAtBoot)
	return b.String()
}

// acceptable returns the user's options under normalised names, without those
// that are refused.
func acceptable(options map[string]string) map[string]string {
	kept := make(map[string]string, len(options))
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if _, refused := judge(name, options[name]); !refused && len(kept) < MaxOptions {
			kept[Normalize(name)] = options[name]
		}
	}
	return kept
}

// without drops the settings that the user overrides.
func without(settings []setting, user map[string]string) []setting {
	var kept []setting
	for _, s := range settings {
		if _, overridden := user[strings.TrimPrefix(s.name, "loose_")]; !overridden {
			kept = append(kept, s)
		}
	}
	return kept
}

func sorted(user map[string]string) []setting {
	settings := make([]setting, 0, len(user))
	for _, name := range slices.Sorted(maps.Keys(user)) {
		settings = append(settings, setting{name, user[name]})
	}
	return settings
}

// layout is where things are and who this is. log_error is not in it: without
// the option the error log goes to standard error, and "log_error = stderr"
// would be a file of that name.
func layout(in *Input) []setting {
	settings := []setting{
		{"datadir", in.DataDir},
		{"tmpdir", in.TmpDir},
		{"replica_load_tmpdir", in.TmpDir},
		{"socket", in.Socket},
		{"pid_file", in.PidFile},
		{"port", strconv.Itoa(in.Port)},
		{"admin_address", in.AdminAddress},
		{"admin_port", strconv.Itoa(in.AdminPort)},
		{"slow_query_log_file", in.SlowLog},
		{"ssl_ca", in.TLSCA},
		{"ssl_cert", in.TLSCertificate},
		{"ssl_key", in.TLSKey},
		{"auto_generate_certs", "OFF"},
		{"server_id", strconv.FormatUint(uint64(in.ServerID), 10)},
	}
	if in.ReportHost != "" {
		settings = append(settings, setting{"report_host", in.ReportHost}, setting{"report_port", strconv.Itoa(in.Port)})
	}
	return settings
}

func plugins() []setting {
	settings := make([]setting, 0, len(pluginLibraries))
	for _, library := range pluginLibraries {
		settings = append(settings, setting{"plugin_load_add", library})
	}
	return settings
}

// section writes a commented group of options, nothing for an empty one.
func section(b *strings.Builder, comment string, settings []setting) {
	if len(settings) == 0 {
		return
	}
	b.WriteString("\n# " + comment + "\n")
	for _, s := range settings {
		b.WriteString(s.name + " = " + quote(s.value) + "\n")
	}
}

// plainValue needs no quotes in an option file.
var plainValue = regexp.MustCompile(`^[A-Za-z0-9_./:,+@%*-]+$`)

// escapes of option files (manual: "Using Option Files").
var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\x00", "")

// quote writes a value so that mysqld reads it back as it is: in quotes a # is
// no comment and blanks at the ends stay.
func quote(value string) string {
	if plainValue.MatchString(value) {
		return value
	}
	return `"` + escapes.Replace(value) + `"`
}
