#!/bin/sh
# Run the attack suite inside memjail and inside other launchers, and write a
# page that compares them.
#
#   testdata/comparison/compare.sh MEMJAIL PAGE
#
# Launchers that are not installed are left out and named. Root runs everything
# twice, as root and as an ordinary user.
#
# Not every launcher runs on every machine. What was collected on another one can
# be added:
#   ONLY=PATTERN   only launchers whose label matches
#   KEEP=DIR       leave what was collected in DIR
#   ADD=DIR        add what another run left there
set -eu
cd "$(dirname "$0")/../.."
memjail=$1 page=$2
here=$PWD/testdata/comparison

# Not below /tmp or /var/tmp: firejail shows a command other ones than ours. The
# directory holds the program and whatever attempts make.
work=$PWD/bin/comparison.$$
mkdir -p "$work/tmp"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
chmod 755 "$work"
chmod 1777 "$work/tmp"
install -m 755 "$memjail" "$work/memjail"
install -m 755 "$here/runc-run" "$work/runc-run"
index=$work/index.tsv
tab=$(printf '\t')

# record ACCOUNT LABEL STATE REST: a line that the page is made from.
record() { printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$index"; }

# why LOG: in a line, what the launcher said, or else what memjail did.
why() {
	{ grep -v -e '^memjail: ' -e '^ *$' "$1" || cat "$1"; } | head -1 | tr "$tab" ' ' | sed "s|$work/||g"
}

# wanted LABEL: whether ONLY lets it.
wanted() {
	# shellcheck disable=SC2254 # a pattern
	case $1 in ${ONLY:-*}) ;; *) return 1 ;; esac
}

# attack ACCOUNT LABEL ARGUMENT...: one run of the suite.
attack() {
	account=$1 label=$2
	shift 2
	wanted "$label" || return 0
	number=$((${number:-0} + 1))
	echo "comparison: $account: $label" >&2
	as=
	[ "$account" = root ] || [ "$(id -u)" -ne 0 ] || as='setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --'
	status=0
	# shellcheck disable=SC2086 # words, or nothing
	(cd "$work/tmp" && TMPDIR=$work/tmp exec $as "$work/memjail" probe -q --format json "$@") \
		>"$work/$number.json" 2>"$work/$number.log" </dev/null || status=$?
	case $status in
	0 | 1) record "$account" "$label" ran "$number.json" ;;
	*) record "$account" "$label" failed "$(why "$work/$number.log")" ;;
	esac
}

# other ACCOUNT LABEL PROGRAM COMMAND: a launcher that may be missing.
other() {
	if command -v "$3" >/dev/null 2>&1; then
		attack "$1" "$2" --via "$4"
	elif wanted "$2"; then
		record "$1" "$2" missing "$3 is not installed"
	fi
}

# jail ACCOUNT LABEL COMMAND: firejail, which in a container starts the command
# without a sandbox, and says so only without --quiet.
jail() {
	wanted "$2" || return 0
	if firejail --noprofile true 2>&1 | grep -q 'existing sandbox'; then
		record "$1" "$2" missing 'firejail takes this machine for a sandbox and adds none'
	else
		other "$1" "$2" firejail "$3"
	fi
}

all() {
	attack "$1" 'memjail run'
	attack "$1" 'memjail run --memory no-write' --memory no-write
	other "$1" 'nothing (env)' env 'env'
	other "$1" 'setpriv --no-new-privs' setpriv 'setpriv --no-new-privs'
	other "$1" 'bwrap --dev-bind / /' bwrap 'bwrap --dev-bind / /'
	other "$1" 'bwrap --unshare-all --dev-bind / / --proc /proc' bwrap 'bwrap --unshare-all --dev-bind / / --proc /proc'
	other "$1" 'bwrap --unshare-all --dev-bind / / --proc /proc --cap-drop ALL' bwrap 'bwrap --unshare-all --dev-bind / / --proc /proc --cap-drop ALL'
	jail "$1" 'firejail --noprofile' 'firejail --quiet --noprofile'
	jail "$1" 'firejail --noprofile --seccomp' 'firejail --quiet --noprofile --seccomp'
	jail "$1" 'firejail (its default profile)' 'firejail --quiet'
	[ "$1" = root ] || return 0
	other root 'runc (the bundle of runc spec)' runc "$work/runc-run"
	unit='systemd-run --quiet --pipe --wait --collect'
	filter='-p SystemCallFilter=@system-service'
	hardened="$filter -p NoNewPrivileges=yes -p CapabilityBoundingSet= -p ProtectProc=invisible -p PrivateUsers=yes -p RestrictNamespaces=yes -p PrivateDevices=yes -p ProtectSystem=full"
	if [ -d /run/systemd/system ] || ! wanted 'systemd-run'; then
		other root "systemd-run $filter" systemd-run "$unit -p WorkingDirectory=$work/tmp $filter"
		other root "systemd-run $hardened" systemd-run "$unit -p WorkingDirectory=$work/tmp $hardened"
	else
		record root "systemd-run $filter" missing 'systemd does not run here'
		record root "systemd-run $hardened" missing 'systemd does not run here'
	fi
}

[ "$(id -u)" -ne 0 ] || all root
all user

versions() {
	echo "Linux $(uname -r)"
	"$work/memjail" version
	for program in setpriv bwrap firejail runc systemd-run; do
		command -v $program >/dev/null 2>&1 && $program --version 2>/dev/null | head -1 || true
	done
}
versions >"$work/versions"
if [ -n "${KEEP:-}" ]; then
	mkdir -p "$KEEP"
	cp "$index" "$work/versions" "$work"/*.json "$KEEP"
fi
${GO:-go} run ./testdata/comparison "$work" ${ADD:+"$ADD"} >"$work/page"
cp "$work/page" "$page"
