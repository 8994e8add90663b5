// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"fmt"
	"path"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/document"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// Version is the only version of the format that is written and read.
const Version = 1

// MaxSize bounds a manifest in bytes: some hundred thousand files.
const MaxSize = 256 << 20

// PartSize is the largest number of bytes of a file in one entry of a pack.
const PartSize = 256 << 20

// Method says how a backup was made.
type Method string

// The methods.
const (
	Physical Method = "Physical" // packs with the files of a data directory
	Logical  Method = "Logical"  // one dump of SQL
)

// Manifest describes one backup. All texts are plain, all sums are SHA-256 in small hexadecimal digits.
type Manifest struct {
	Version int `json:"version"`
	// ID of the backup, as NewID makes it; Attempt is the random id of the attempt that was successful.
	ID      string          `json:"id"`
	Attempt string          `json:"attempt"`
	Method  Method          `json:"method"`
	Cluster wire.ClusterKey `json:"cluster"`
	// CreatedAt is when the manifest was written.
	CreatedAt time.Time `json:"createdAt"`
	// ConsistentAt: no transaction in the backup committed later, by the original commit time of each.
	ConsistentAt time.Time `json:"consistentAt"`
	// GTIDExecuted is gtid_executed of the copy, the whole set in the form of gtid.Set.String.
	GTIDExecuted string `json:"gtidExecuted"`
	// MySQLVersion is version() of the server, for example 9.7.4, and ServerUUID that of the instance that was copied.
	MySQLVersion string `json:"mysqlVersion"`
	ServerUUID   string `json:"serverUUID"`
	// Settings are the options with which the data directory was initialised and must be started, by names of FixedSettings.
	Settings map[string]string `json:"settings,omitempty"`
	// Encrypted with age, every pack or the dump.
	Encrypted bool `json:"encrypted"`
	// Bytes of all files (or of the dump) as they are, StoredBytes of all packs (or the dump) as stored.
	Bytes       int64 `json:"bytes"`
	StoredBytes int64 `json:"storedBytes"`
	// Dump of a logical backup; nil of a physical one.
	Dump *Dump `json:"dump,omitempty"`
	// Packs, Directories and Files of a physical backup. Directories and files are sorted by path.
	Packs       []Pack   `json:"packs,omitempty"`
	Directories []string `json:"directories,omitempty"`
	Files       []File   `json:"files,omitempty"`
	// Tables of the users, sorted by schema and name.
	Tables []Table `json:"tables,omitempty"`
}

// Pack is one object with parts of files: a tar, compressed, perhaps encrypted.
type Pack struct {
	// Name is PackName of its place in the list.
	Name        string `json:"name"`
	StoredBytes int64  `json:"storedBytes"`
	// SHA256 of the stored bytes.
	SHA256  string  `json:"sha256"`
	Entries []Entry `json:"entries"`
}

// Entry is one part of a file: an entry of the tar, by the name of EntryName.
type Entry struct {
	Path string `json:"path"`
	// Part counts from 0 within the file.
	Part   int   `json:"part"`
	Offset int64 `json:"offset"`
	// Length is at most PartSize; 0 only for the one part of an empty file.
	Length int64 `json:"length"`
	// SHA256 of the part's bytes as they are.
	SHA256 string `json:"sha256"`
}

// File is one file of the data directory.
type File struct {
	// Path within the data directory, with slashes.
	Path string `json:"path"`
	Size int64  `json:"size"`
	// Mode holds the permission bits.
	Mode uint32 `json:"mode"`
}

// Table is one table of the users when the backup was made.
type Table struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
	Engine string `json:"engine"`
	Rows   int64  `json:"rows"`
	// Checksum as CHECKSUM TABLE … EXTENDED gives it; nil when the engine gives none.
	Checksum *uint64 `json:"checksum,omitempty"`
}

// Dump is the object of a logical backup.
type Dump struct {
	// Name is DumpName.
	Name        string `json:"name"`
	StoredBytes int64  `json:"storedBytes"`
	// SHA256 of the stored bytes, RawSHA256 of the SQL.
	SHA256    string   `json:"sha256"`
	RawSHA256 string   `json:"rawSHA256"`
	Schemas   []string `json:"schemas"`
}

// FixedSettings are the options of mysqld that are fixed when a data directory is initialised.
var FixedSettings = []string{
	"innodb_checksum_algorithm", "innodb_data_file_path", "innodb_page_size", "innodb_undo_directory", "lower_case_table_names",
}

// Encode writes a manifest. It fills in Version and rounds the times to microseconds, ConsistentAt up. It refuses what Parse
// would refuse.
func (m *Manifest) Encode() ([]byte, error) {
	whole := *m
	whole.Version = Version
	whole.CreatedAt = whole.CreatedAt.UTC().Truncate(time.Microsecond)
	whole.ConsistentAt = whole.ConsistentAt.UTC().Add(time.Microsecond - 1).Truncate(time.Microsecond)
	if err := whole.check(); err != nil {
		return nil, err
	}
	return document.Encode(&whole)
}

// Parse reads a manifest and checks all of it. Errors wrap document.ErrDamaged when the bytes are not what was written, and
// ErrInvalid, naming the field, when they say something that cannot be.
func Parse(data []byte) (*Manifest, error) {
	var m Manifest
	if err := document.Parse(data, MaxSize, &m); err != nil {
		return nil, fmt.Errorf("reading a manifest: %w", err)
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	return &m, nil
}

// Summary is what a plan needs to know of a backup.
type Summary struct {
	ID           string
	Attempt      string
	Method       Method
	Cluster      wire.ClusterKey
	CreatedAt    time.Time
	ConsistentAt time.Time
	GTIDs        gtid.Set
	MySQLVersion string
	Encrypted    bool
	Bytes        int64
	StoredBytes  int64
}

// Summary of a manifest that Parse has given.
func (m *Manifest) Summary() Summary {
	set, err := gtid.Parse(m.GTIDExecuted)
	if err != nil {
		panic(fmt.Sprintf("a manifest that was not checked: %v", err))
	}
	return Summary{
		ID: m.ID, Attempt: m.Attempt, Method: m.Method, Cluster: m.Cluster, CreatedAt: m.CreatedAt, ConsistentAt: m.ConsistentAt,
		GTIDs: set, MySQLVersion: m.MySQLVersion, Encrypted: m.Encrypted, Bytes: m.Bytes, StoredBytes: m.StoredBytes,
	}
}

// NewID is the id of a backup: the time in UTC and the first eight hexadecimal digits of the UID of its object.
func NewID(at time.Time, uid string) string {
	return at.UTC().Format(idTime) + "-" + hexPrefix(uid)
}

const idTime = "20060102T150405Z"

// Folder is the key below which all backups of a cluster lie; it ends with a slash.
func Folder(cluster wire.ClusterKey) string { return path.Join(cluster.Root(), "backups") + "/" }

// BackupFolder is the key below which everything of one backup lies, its attempts included; it ends with a slash.
func BackupFolder(cluster wire.ClusterKey, id string) string { return Folder(cluster) + id + "/" }

// Key is that of the manifest of a backup.
func Key(cluster wire.ClusterKey, id string) string {
	return BackupFolder(cluster, id) + FileName
}

// FileName is the last part of the key of every manifest.
const FileName = "manifest.json"

// ObjectKey is the key of a pack or a dump of an attempt, by its name.
func ObjectKey(cluster wire.ClusterKey, id, attempt, name string) string {
	return BackupFolder(cluster, id) + attempt + "/" + name
}

// ObjectKey is the key of one of the manifest's packs, or of its dump, by its name.
func (m *Manifest) ObjectKey(name string) string {
	return ObjectKey(m.Cluster, m.ID, m.Attempt, name)
}

// PackName is the name of the pack with a number from 0, before the suffix that encryption adds.
func PackName(number int) string { return fmt.Sprintf("pack-%06d.tar.zst", number) }

// DumpName is the name of a dump, before the suffix that encryption adds.
const DumpName = "dump.sql.zst"

// EncryptedSuffix ends the name of every encrypted object.
const EncryptedSuffix = ".age"

// EntryName is the name of an entry of a tar: the path itself for part 0, path#part-0001 and so on for the others.
func EntryName(filePath string, part int) string {
	if part == 0 {
		return filePath
	}
	return fmt.Sprintf("%s#part-%04d", filePath, part)
}
