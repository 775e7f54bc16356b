package accept

// dropSource makes the tree $1 that is backed up, and the directory gone beside it.
const dropSource = `
mkdir -p "$1"/{docs/deep,code,big,cached,skip,empty} "${1%/*}/gone"
cd "$1"
for i in a b c; do printf 'text %s\n' $i >docs/$i.txt; done
printf 'deep\n' >docs/deep/NOTE.md
printf 'package main\n' >code/main.go
printf 'object\n' >code/main.o
printf 'object too\n' >code/Upper.O
printf 'name\n' >'docs/with space.txt'
printf 'umlaut\n' >docs/ünï.txt
openssl enc -aes-128-ctr -K 00112233445566778899aabbccddeeff -iv 00 -in /dev/zero 2>/dev/null | head -c 1200000 >big/noise.bin || true
head -c 1100000 /dev/zero >big/zeros.bin
printf 'Signature: 8a477f597d28d172789f06886806bc55\n' >cached/CACHEDIR.TAG
printf 'cached\n' >cached/file
touch skip/.nobackup
printf 'skipped\n' >skip/file
ln -s a.txt docs/link
ln docs/a.txt docs/hard.txt
mkfifo code/pipe
chmod 640 docs/b.txt
printf 'gone\n' >../gone/file
find . ../gone -depth -exec touch -h -d '2020-02-02 02:02:02.123456789' {} +
`

// dropChange changes it for the second snapshot.
const dropChange = `
cd "$1"
printf 'text a, changed\n' >docs/a.txt
rm docs/b.txt
printf 'new\n' >docs/new.txt
chmod 600 code/main.go
rm docs/c.txt; mkdir docs/c.txt
find . -depth -newermt 2023-01-01 -exec touch -h -d '2021-03-03 03:03:03' {} +
`

// dropFiles lie beside the source, for flags that read files.
var dropFiles = map[string]string{
	"excludes":       "# a comment\n*.o\n!code/main.o\n\n*.bin\n",
	"excludes-upper": "*.O\n*.BIN\n",
	"from":           "# a comment\nsource/d*\n\nsource/code\n",
	"from-verbatim":  "source/docs\nsource/code\n",
	"from-raw":       "source/docs\x00source/code\x00",
}

// digitsOfNow: the time of what comes through standard input is now, and its fraction has more or fewer digits.
const digitsOfNow = `^output\[\]\.data_added: restic \d+, vitrine \d+$`

// digitsOfParents: the directories above are stored too, and what runs at the same time changes them: the fractions of
// their times have more or fewer digits.
const digitsOfParents = `^output\[\]\.(data_added|metadata_size): restic \d+, vitrine \d+$`

// dropCases are the command lines. Each begins with the command; repository, password and cache come before it.
var dropCases = []dropCase{
	// init
	{args: "init -r %P/new", writes: true},
	{args: "init -r %P/new --json", writes: true},
	{args: "init -r %P/new --repository-version 1", writes: true},
	{args: "init -r %P/new --repository-version latest", writes: true},
	{args: "init -r %P/new --copy-chunker-params --from-repo %REPO --from-password-file %DIR/password", writes: true},
	{args: "init"},
	{args: "init -r %P/new --repository-version 9"},
	{args: "init -r %P/new --from-repo %REPO"},

	// backup
	{args: "backup source", writes: true},
	{args: "backup --json source", writes: true},
	{args: "backup -v source", writes: true},
	{args: "backup -vv --json %DIR/source/docs", writes: true, varies: digitsOfParents},
	{args: "backup --quiet source", writes: true},
	{args: "backup --json --quiet source", writes: true},
	{args: "backup source/docs/a.txt source/code", writes: true},
	{args: "backup --json %DIR/source/docs", writes: true, varies: digitsOfParents},
	{args: "backup --dry-run source"},
	{args: "backup --dry-run --json source"},
	{args: "backup -n -vv --json source/docs --host new"},
	{args: "backup --stdin --json", stdin: "from a pipe\n", writes: true, varies: digitsOfNow},
	{args: "backup --stdin --stdin-filename dir/name.sql --json", stdin: "from a pipe\n", writes: true, varies: digitsOfNow},
	{args: "backup --stdin source", stdin: "from a pipe\n"},
	{args: "backup --json --exclude *.o --exclude docs/deep source", writes: true},
	{args: "backup --json -e %DIR/source/big source", writes: true},
	{args: "backup --json --iexclude *.O source", writes: true},
	{args: "backup --json --exclude-file excludes source", writes: true},
	{args: "backup --json --iexclude-file excludes-upper source", writes: true},
	{args: "backup --exclude-file nowhere source"},
	{args: "backup --exclude [ source"},
	{args: "backup --json --exclude-caches source", writes: true},
	{args: "backup --json --exclude-if-present .nobackup source", writes: true},
	{args: "backup --json --exclude-if-present CACHEDIR.TAG:Signature source", writes: true},
	{args: "backup --json --exclude-larger-than 1M source", writes: true},
	{args: "backup --exclude-larger-than many source"},
	{args: "backup --json --one-file-system source", writes: true},
	{args: "backup --json -x source/docs source/code", writes: true},
	{args: "backup --json --files-from from", writes: true},
	{args: "backup --json --files-from-verbatim from-verbatim", writes: true},
	{args: "backup --json --files-from-raw from-raw", writes: true},
	{args: "backup --json --files-from from source/empty", writes: true},
	{args: "backup --json --files-from -", stdin: "source/code\n", writes: true},
	{args: "backup --files-from nowhere"},
	{args: "backup --json --tag new --tag two,three source/docs", writes: true},
	{args: "backup --json --time 2023-05-05␣05:05:05 source/docs", writes: true},
	{args: "backup --time yesterday source/docs"},
	{args: "backup --json --host delta source/docs", writes: true},
	{args: "backup --json --hostname delta source/docs", writes: true},
	{args: "backup --json --parent %S1:8 source", writes: true},
	{args: "backup --json --parent latest source", writes: true},
	{args: "backup --parent ffffffff source"},
	{args: "backup --json --host beta source/docs", writes: true},
	{args: "backup --json --host beta --force source/docs", writes: true},
	{args: "backup --json --host beta --ignore-inode source/docs", writes: true},
	{args: "backup --json --host beta --ignore-ctime source/docs", writes: true},
	{args: "backup --json --with-atime source/code", writes: true},
	{args: "backup --json --pack-size 8 --compression max source", writes: true},
	{args: "backup --json --compression off source", writes: true},
	{args: "backup --compression some source"},
	{args: "backup --json source/docs source/nowhere", writes: true},
	{args: "backup source/docs source/nowhere", writes: true},
	{args: "backup source/nowhere"},
	{args: "backup --json source/nowhere"},
	{args: "backup"},
	{args: "backup source", locked: true},
	{args: "backup source", dead: true, writes: true},

	// snapshots
	{args: "snapshots"},
	{args: "snapshots --json"},
	{args: "snapshots --compact"},
	{args: "snapshots --latest 1 --json"},
	{args: "snapshots --latest 2"},
	{args: "snapshots --last --json"},
	{args: "snapshots --host beta --json"},
	{args: "snapshots -H alpha -H gamma --json"},
	{args: "snapshots --tag one --json"},
	{args: "snapshots --tag two,x --json"},
	{args: "snapshots --tag two,y --json"},
	{args: "snapshots --path %DIR/source/docs --json"},
	{args: "snapshots --group-by host --json"},
	{args: "snapshots --group-by host,paths", how: asSet},
	{args: "snapshots -g tags -c", how: asSet},
	{args: "snapshots --group-by nothing"},
	{args: "snapshots latest --json"},
	{args: "snapshots %S1:8 %S3 --json"},
	{args: "snapshots ffffffff --json"},
	{args: "snapshots latest --host beta --json"},
	{args: "snapshots --no-lock --json", locked: true},

	// ls
	{args: "ls latest"},
	{args: "ls -l latest"},
	{args: "ls --json latest"},
	{args: "ls %S1:8 /source/docs"},
	{args: "ls --recursive %S1:8 /source/docs"},
	{args: "ls --json %S1 /source/docs /source/code"},
	{args: "ls latest --host beta"},
	{args: "ls latest --tag two"},
	{args: "ls latest --path %DIR/source/docs --json"},
	{args: "ls latest --tag nowhere"},
	{args: "ls ffffffff"},
	{args: "ls %S1:8 /nowhere"},
	{args: "ls %S1:8 relative"},
	{args: "ls"},

	// find
	{args: "find a.txt"},
	{args: "find --json *.txt"},
	{args: "find -i *.TXT --json"},
	{args: "find -l main.go"},
	{args: "find source/docs/*.txt --json"},
	{args: "find a.txt new.txt --json"},
	{args: "find -s %S1:8 a.txt --json"},
	{args: "find --snapshot %S1:8 --snapshot %S2:8 b.txt --json"},
	{args: "find --host beta --json a.txt"},
	{args: "find --tag two --json a.txt"},
	{args: "find --path %DIR/source/docs --json a.txt"},
	{args: "find --newest 2020-06-06 --json *.txt"},
	{args: "find --oldest 2020-06-06 --json *.txt"},
	{args: "find -O 2020-01-01 -N 2020-06-06 --json *.txt"},
	{args: "find --newest never *.txt"},
	{args: "find nowhere"},
	{args: "find nowhere --json"},
	{args: "find --blob %BLOB"},
	{args: "find --blob %BLOB --json"},
	{args: "find --blob %BLOB:8 --json"},
	{args: "find --tree %TREE"},
	{args: "find --tree %TREE --json"},
	{args: "find --pack %PACK --json"},
	{args: "find --pack %PACK"},
	{args: "find --blob %BLOB --show-pack-id"},
	{args: "find"},
	{args: "find --blob --tree %BLOB"},

	// diff
	{args: "diff %S1:8 %S2:8"},
	{args: "diff %S1 %S2 --json"},
	{args: "diff --metadata %S1:8 %S2:8"},
	{args: "diff --metadata --json %S1:8 %S2:8"},
	{args: "diff %S1:8 %S1:8 --json"},
	{args: "diff %S2 %S5 --json"},
	{args: "diff %S1"},
	{args: "diff %S1 ffffffff"},

	// stats
	{args: "stats"},
	{args: "stats --json"},
	{args: "stats latest --json"},
	{args: "stats %S1:8 %S2:8 --json"},
	{args: "stats --host beta --json"},
	{args: "stats --mode files-by-contents --json"},
	{args: "stats --mode blobs-per-file --json"},
	{args: "stats --mode raw-data --json"},
	{args: "stats --mode raw-data"},
	{args: "stats --mode restore-size latest"},
	{args: "stats --mode nothing"},
}
