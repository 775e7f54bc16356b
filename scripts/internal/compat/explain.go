package compat

// Verdict says how a flag of restic fares.
type Verdict string

// The verdicts; what has none is the same.
const (
	Differs Verdict = "differs"
	No      Verdict = "no"
)

// Exception is a flag, or with an empty Flag a command, that is not here as it is in restic.
type Exception struct {
	Command, Flag string
	Verdict       Verdict
	Why           string
}

const (
	secondRepository = "restic's old names for the other repository; `--from-…` are the new ones"
	behindSubcommand = "behind `key add` and `key passwd` only, as in restic since 0.17"
)

// exceptions are all of them.
var exceptions = []Exception{
	{"", "http-user-agent", No, "the program says its own name"},
	{"copy", "repo2", No, secondRepository},
	{"copy", "repository-file2", No, secondRepository},
	{"copy", "password-file2", No, secondRepository},
	{"copy", "password-command2", No, secondRepository},
	{"copy", "key-hint2", No, secondRepository},
	{"init", "repo2", No, secondRepository},
	{"init", "repository-file2", No, secondRepository},
	{"init", "password-file2", No, secondRepository},
	{"init", "password-command2", No, secondRepository},
	{"init", "key-hint2", No, secondRepository},
	{"key", "host", Differs, behindSubcommand},
	{"key", "user", Differs, behindSubcommand},
	{"key", "new-password-file", Differs, behindSubcommand},
	{"self-update", "", No, "it is built from its sources"},
}

// hidden are flags that restic 0.14 accepts and its help does not name.
var hidden = []struct {
	command string
	flag    Flag
}{
	{"backup", Flag{Long: "hostname", Value: true}},
	{"check", Flag{Long: "check-unused"}},
	{"copy", Flag{Long: "repo2", Value: true}},
	{"copy", Flag{Long: "repository-file2", Value: true}},
	{"copy", Flag{Long: "password-file2", Value: true}},
	{"copy", Flag{Long: "password-command2", Value: true}},
	{"copy", Flag{Long: "key-hint2", Value: true}},
	{"forget", Flag{Long: "hostname", Value: true}},
	{"init", Flag{Long: "repo2", Value: true}},
	{"init", Flag{Long: "repository-file2", Value: true}},
	{"init", Flag{Long: "password-file2", Value: true}},
	{"init", Flag{Long: "password-command2", Value: true}},
	{"init", Flag{Long: "key-hint2", Value: true}},
	{"mount", Flag{Long: "no-default-permissions"}},
	{"snapshots", Flag{Long: "last"}},
}

// Difference is something that a command does otherwise than restic, on purpose.
type Difference struct {
	ID      string // by which a test names it
	Command string // "" for all
	Text    string
}

// Differences are all of them. Those that Debian's restic shows are met by TestDropIn of scripts/accept, which accepts no other;
// those from newer versions of restic were compared by hand.
var Differences = []Difference{
	{"newer", "", "where restic 0.14 and 0.18 differ it is as in 0.18: exit codes 10, 11, 12, more fields in `--json`, whole IDs in it, words"},
	{"messages", "", "commands that only print text in restic have a message `summary` for `--json`, `list`, `cat` and `dump` print what they print without"},
	{"options", "", "an unknown key of `-o` is an error"},
	{"features", "", "an unknown name in `RESTIC_FEATURES` is a warning"},
	{"full", "", "a command that only prints ends with 1 when its output cannot be written (restic 0.14: 0 for most)"},
	{"parent", "backup", "without a snapshot of all its paths the parent is the newest one that has most of them, so that a path that is added does not make all be read again"},
	{"compression", "", "data is compressed by another library, so that sizes in the repository differ a little"},
	{"progress without a terminal", "all commands", "long work whose output is no terminal tells its progress in a line after 10 s, 20 s and so on, less often as it goes on (restic: only with `PROGRESS_FPS`); `--quiet` and `PROGRESS_FPS=0` are without"},
	{"missing source", "backup", "a source that is not there makes exit code 3 also when there are others (restic 0.18: 0)"},
	{"link", "backup", "a target that is a symbolic link to a directory is saved as the link, and a line on standard error says so, unless with `--json` or `--quiet`"},
	{"dry ID", "backup", "`--dry-run --json` tells no ID of a snapshot, for there is none"},
	{"items", "backup", "`-vv` names files by their paths on disk, restic by those in the snapshot"},
	{"cat", "cat", "takes the beginning of the ID of every kind of file, and `latest` for a snapshot and its tree"},
	{"no cache", "check", "`--with-cache` is accepted, but no cache is believed"},
	{"copy", "copy", "has messages for `--json`: `copied`, `skipped`, `summary`"},
	{"archive", "dump", "archives keep hard links, fractions of seconds and, in zip, FIFOs; a file that `--target` names is there when it is complete"},
	{"find", "find", "finds also what restic 0.14 skips when a directory was met without a match under another path; takes `!` as a letter; " +
		"tells every place of a tree with `--tree`; accepts beginnings of IDs of any length; shows the newest snapshot first, as restic does since 0.18; " +
		"puts the pack of `--show-pack-id` into the `--json` objects"},
	{"forget lock", "forget", "`--dry-run` takes no lock, unless with `--prune`"},
	{"reasons", "forget", "the reasons of `--json` have the counters of 0.14 and the IDs of 0.18"},
	{"retention", "forget", "keeps what restic of today keeps, which is more than 0.14 does; without a policy, or with one that fits no snapshot of a group, it is an error"},
	{"migrate", "migrate", "an unknown migration is an error; the check before is silent"},
	{"repair snapshots", "repair snapshots", "a snapshot whose root is lost is removed only with `--forget`"},
	{"verify", "restore", "`--verify` compares also the files that `--overwrite never` or `if-newer` has kept"},
	{"sockets", "restore", "`--delete` leaves sockets in directories that stay, for no snapshot has any"},
	{"set-ID", "restore", "a file that cannot be given to its owner does not get its set-user-ID and set-group-ID bits"},
	{"rewrite", "rewrite", "`--exclude` adds no summary to snapshots that have none (`--snapshot-summary` does)"},
	{"stats", "stats", "`--mode debug` is in a form of its own, with `--json` too"},
	{"tags", "tag", "`--remove` keeps the order of the other tags; `--set ''` takes all away, where restic changes nothing"},
	{"unlock", "unlock", "says how many locks it removed and how many stay"},
}
