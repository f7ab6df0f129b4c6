#!/bin/sh
# make demo: real work under memjail, then attempts on memory, each first
# outside, where it has to succeed, then inside, where it has to fail. Exit
# status 0 only if everything came as announced.
#
#   testdata/demo/demo.sh PATH-OF-MEMJAIL
set -u
sources=$(cd "$(dirname "$0")" && pwd)
memjail=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/outside" "$work/inside" "$work/bin"
wrong=0
# Of testdata/attacks/c; each prints a line "ATTEMPT what: outcome" for every attempt.
programs='open others processvm ptrace int80 pidfd uffd iouring perf setmm coredump'

title() { printf '\n== %s\n\n' "$1"; }
ok() { printf '  [as it should be] %s\n' "$1"; }
bad() {
	printf '  [NOT AS IT SHOULD BE] %s\n' "$1"
	wrong=$((wrong + 1))
}

# expect WANTED-STATUS WHAT COMMAND...
expect() {
	wanted=$1 what=$2
	shift 2
	"$@"
	got=$?
	if [ "$got" -eq "$wanted" ]; then ok "$what"; else bad "$what (exit status $got, not $wanted)"; fi
}

work_in() { (cd "$work/$1" && shift && "$@"); }

# attempts runs the attack programs, on their own process, a child, a sibling
# and a parent, and leaves "got-through tried" in $result.
attempts() {
	: >"$work/lines"
	for program in $programs; do
		[ -x "$work/bin/$program" ] || continue
		work_in outside timeout 20 "$@" "$work/bin/$program" >>"$work/lines" 2>/dev/null
		[ $? -ne 124 ] || bad "$program did not end within 20 seconds"
	done
	result="$(grep -cE '^ATTEMPT .*: (CHANGED|READ|OPENED)' "$work/lines") $(grep -cE '^ATTEMPT .*: (CHANGED|READ|OPENED|refused)' "$work/lines")"
}

title "1. A real program works: gcc, git, python3, pipelines, ps"
printf '  $ memjail run -- sh job.sh\n\n'
work_in outside sh "$sources/job.sh" >"$work/outside.txt" 2>&1 || bad "the job fails without memjail"
work_in inside "$memjail" run -q -- sh "$sources/job.sh" >"$work/inside.txt" 2>&1 || bad "the job fails under memjail"
sed 's/^/  /' "$work/inside.txt"
echo
if cmp -s "$work/outside.txt" "$work/inside.txt"; then
	ok "word for word what it prints without memjail"
else
	bad "different from what it prints without memjail:"
	diff "$work/outside.txt" "$work/inside.txt" | sed 's/^/    /'
fi

title "2. A program changes a variable of its own through /proc/self/mem"
gcc -O1 -o "$work/bin/selfmem" "$sources/selfmem.c" || bad "compiling selfmem.c"
if command -v rustc >/dev/null 2>&1; then
	rustc -O -o "$work/bin/selfmem-rust" "$sources/selfmem.rs" || bad "compiling selfmem.rs"
else
	echo "  (no rustc on this machine: the Rust version is left out)"
fi
for where in outside inside; do
	if [ $where = outside ]; then
		printf '  Without memjail:\n\n'
		wanted=0 what="changed behind the program's back"
		set --
	else
		printf '\n  The same under memjail run:\n\n'
		wanted=1 what="refused, and unchanged"
		set -- "$memjail" run -q --
	fi
	expect $wanted "$what" "$@" "$work/bin/selfmem"
	expect $wanted "$what" "$@" python3 "$sources/selfmem.py"
	[ ! -x "$work/bin/selfmem-rust" ] || expect $wanted "$what" "$@" "$work/bin/selfmem-rust"
done

title "3. A symbolic link in the place of an honest program's temporary file"
for where in outside inside; do
	if [ $where = outside ]; then
		printf '  Without memjail:\n\n'
		wanted='role admin' what="its memory was changed by a note that it wrote"
		set --
	else
		printf '\n  The same under memjail run:\n\n'
		wanted='role guest' what="refused, and unchanged"
		set -- "$memjail" run -q --
	fi
	"$sources/notes.sh" /proc/self/mem "$@" >"$work/said"
	sed 's/^/  /' "$work/said"
	if [ "$(tail -n 1 "$work/said")" = "$wanted" ]; then ok "$what"; else bad "$what"; fi
done

title "4. Every other way: spellings of the path, other processes, calls, 32-bit calls"
for program in $programs; do
	gcc -O1 -pthread -o "$work/bin/$program" "$sources/../attacks/c/$program.c" 2>"$work/errors" || {
		# int80 is for x86 only.
		[ "$program" = int80 ] && [ "$(uname -m)" != x86_64 ] || { bad "compiling $program.c"; cat "$work/errors"; }
	}
done
attempts env
set -- $result
printf '  without memjail: %s of %s attempts got through\n' "$1" "$2"
[ "$1" -gt 0 ] && ok "the attempts are real" || bad "no attempt works even without memjail: they prove nothing"
attempts "$memjail" run -q --
set -- $result
printf '  under memjail:   %s of %s attempts got through\n' "$1" "$2"
if [ "$1" -eq 0 ] && [ "$2" -gt 0 ]; then
	ok "none"
else
	bad "these should have been refused:"
	grep -E '^ATTEMPT .*: (CHANGED|READ|OPENED)' "$work/lines" | sed 's/^/    /'
fi

title "5. What memjail says about it, with -v"
printf '  $ memjail run -v -- ./selfmem\n\n'
"$memjail" run -v -- "$work/bin/selfmem" 2>"$work/summary" >/dev/null
sed 's/^/  /' "$work/summary"
[ -s "$work/summary" ] || bad "there is no summary"

echo
if [ $wrong -eq 0 ]; then
	echo "Everything came as announced."
	exit 0
fi
echo "$wrong things did not come as announced."
exit 1
