#!/bin/sh
# Makes restic-v1 and restic-v2 beside itself with the restic in PATH, as root on Linux. Run it
# only to add a generation under a new name: the ones that are here are kept for ever.
set -eu
cd "$(dirname "$0")"
export RESTIC_PASSWORD=golden
src=$(mktemp -d)/src
mkdir -p "$src/sub/deep"
seq 1 2500 >"$src/text"
head -c 3000 /dev/urandom >"$src/random"
: >"$src/empty"
echo one >"$src/sub/one"
cp "$src/sub/one" "$src/sub/same"
ln "$src/text" "$src/sub/hard"
ln -s ../text "$src/sub/link"
mkfifo "$src/sub/fifo"
mknod "$src/sub/null" c 1 3
touch "$src/sub/$(printf 'latin-\344')" "$src/sub/<&\">"
setfattr -n user.colour -v blue "$src/sub/one"
chmod 1777 "$src/sub/deep"
chmod 4755 "$src/sub/same"
seq 1 5000 >"$src/sub/deep/numbers"
touch -d '1966-05-04 03:02:01.123456789Z' "$src/empty"
for v in 1 2; do
	repo=restic-v$v
	restic init -q -r "$repo" --repository-version "$v" --no-cache
	echo one >"$src/sub/one"
	(cd "$src/.." && restic -q --no-cache -r "$OLDPWD/$repo" backup src --host golden --time '2024-02-03 04:05:06' --tag first)
	echo more >>"$src/sub/one"
	seq 5000 9000 >"$src/sub/deep/numbers2"
	(cd "$src/.." && restic -q --no-cache -r "$OLDPWD/$repo" backup src --host golden --time '2024-03-04 05:06:07' --tag 'second one')
	rm "$src/sub/deep/numbers2"
	(cd "$src/.." && restic -q --no-cache -r "$OLDPWD/$repo" backup src --host golden --time '2024-04-05 06:07:08')
	# The prune leaves an index with a "supersedes" list.
	restic -q --no-cache -r "$repo" forget --keep-last 2 --group-by host --prune --max-unused 0
	restic -q --no-cache -r "$repo" check --read-data
done
rm -r "${src%/src}"
