package progress

import "time"

// The objects of --json, with restic's names and types. What is omitted when zero there is
// omitted here.

// statusMessage says how far a backup is.
type statusMessage struct {
	MessageType      string   `json:"message_type"` // status
	SecondsElapsed   uint64   `json:"seconds_elapsed,omitempty"`
	SecondsRemaining uint64   `json:"seconds_remaining,omitempty"`
	PercentDone      float64  `json:"percent_done"` // 0 to 1
	TotalFiles       uint64   `json:"total_files,omitempty"`
	FilesDone        uint64   `json:"files_done,omitempty"`
	TotalBytes       uint64   `json:"total_bytes,omitempty"`
	BytesDone        uint64   `json:"bytes_done,omitempty"`
	ErrorCount       uint64   `json:"error_count,omitempty"`
	CurrentFiles     []string `json:"current_files,omitempty"`
}

// itemMessage tells of one file or directory, or of the end of the scan.
type itemMessage struct {
	MessageType        string  `json:"message_type"` // verbose_status
	Action             string  `json:"action"`       // new, modified, unchanged, scan_finished
	Item               string  `json:"item"`
	Duration           float64 `json:"duration"` // seconds
	DataSize           uint64  `json:"data_size"`
	DataSizeInRepo     uint64  `json:"data_size_in_repo"`
	MetadataSize       uint64  `json:"metadata_size"`
	MetadataSizeInRepo uint64  `json:"metadata_size_in_repo"`
	TotalFiles         uint64  `json:"total_files"`
}

// summaryMessage is the last message of a backup.
type summaryMessage struct {
	MessageType         string    `json:"message_type"` // summary
	FilesNew            uint64    `json:"files_new"`
	FilesChanged        uint64    `json:"files_changed"`
	FilesUnmodified     uint64    `json:"files_unmodified"`
	DirsNew             uint64    `json:"dirs_new"`
	DirsChanged         uint64    `json:"dirs_changed"`
	DirsUnmodified      uint64    `json:"dirs_unmodified"`
	DataBlobs           int64     `json:"data_blobs"`
	TreeBlobs           int64     `json:"tree_blobs"`
	DataAdded           uint64    `json:"data_added"`
	DataAddedPacked     uint64    `json:"data_added_packed"`
	TotalFilesProcessed uint64    `json:"total_files_processed"`
	TotalBytesProcessed uint64    `json:"total_bytes_processed"`
	TotalDuration       float64   `json:"total_duration"` // seconds
	BackupStart         time.Time `json:"backup_start"`
	BackupEnd           time.Time `json:"backup_end"`
	SnapshotID          string    `json:"snapshot_id,omitempty"`
	DryRun              bool      `json:"dry_run,omitempty"`
}

// ErrorMessage tells of something that went wrong while the command goes on.
type ErrorMessage struct {
	MessageType string    `json:"message_type"` // error
	Error       ErrorText `json:"error"`
	During      string    `json:"during"`
	Item        string    `json:"item"`
}

// ErrorText is the error of an ErrorMessage.
type ErrorText struct {
	Message string `json:"message"`
}
