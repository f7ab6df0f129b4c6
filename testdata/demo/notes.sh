#!/bin/sh
# The story of a temporary file: somebody who may write in the same directory puts a
# symbolic link in its place and leaves a note. An honest program writes the note, and by
# that into its own memory. Prints what the program says.
#
#   testdata/demo/notes.sh TARGET [COMMAND...]    COMMAND is put before the program
#
# TARGET is where the link leads, or "none" for a temporary file as it should be.
set -eu
program=$(cd "$(dirname "$0")" && pwd)/notes.py
target=$1
shift
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkfifo "$dir/note"
if [ "$target" = none ]; then
	: >"$dir/notes.tmp"
else
	ln -s "$target" "$dir/notes.tmp"
fi
"$@" python3 "$program" "$dir/notes.tmp" <"$dir/note" >"$dir/said" &
exec 3>"$dir/note"
until [ -s "$dir/said" ]; do
	kill -0 $! # it has not ended
	sleep 0.02
done
read -r _ _ address <"$dir/said"
[ "$target" != none ] || address=3
echo "$address admin" >&3
exec 3>&-
wait $! || true
sed 's/ [0-9]*$//' "$dir/said"
[ "$target" != none ] || printf '%s\n' "$(tail -c 5 "$dir/notes.tmp")"
