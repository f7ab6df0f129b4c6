# The crate procfs, which reads most of /proc.
version=0.18.0
case $1 in
prepare)
	cd "$2"
	[ -s programs ] || { "$(dirname "$0")/crate" procfs $version >&2 && chmod -R a+rX .; }
	echo $version
	;;
run)
	while read -r program; do
		name=${program##*/}
		echo "== ${name%-*}"
		timeout -k 5 300 "$2/procfs-0.18.0/$program" --test-threads 2 </dev/null
	done <"$2/programs"
	;;
esac
