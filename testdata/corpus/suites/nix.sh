# The crate nix: system calls as Rust programs make them.
version=0.30.1
case $1 in
prepare)
	cd "$2"
	[ -s programs ] || { "$(dirname "$0")/crate" nix $version --all-features >&2 && chmod -R a+rX .; }
	echo $version
	;;
run)
	while read -r program; do
		name=${program##*/}
		echo "== ${name%-*}"
		timeout -k 5 300 "$2/nix-0.30.1/$program" --test-threads 2 </dev/null
	done <"$2/programs"
	;;
esac
