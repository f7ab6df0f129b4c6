# Redis's own tests against Debian's server: files, replication, sockets, forks.
units="unit/auth unit/dump unit/expire unit/info unit/introspection unit/keyspace unit/limits unit/multi unit/other
	unit/protocol unit/pubsub unit/scan unit/scripting unit/type/hash unit/type/string integration/aof
	integration/rdb integration/redis-cli integration/replication"
case $1 in
prepare)
	cd "$2"
	if [ ! -d source ]; then
		"$(dirname "$0")/source" redis >&2
		chmod -R a+rX source
	fi
	redis-server --version | sed 's/.*v=\([^ ]*\).*/\1/'
	;;
run)
	cp -a "$2/source" redis && cd redis || exit
	for program in redis-server redis-cli redis-benchmark redis-check-aof redis-check-rdb redis-sentinel; do
		ln -sf "/usr/bin/$program" "src/$program"
	done
	# shellcheck disable=SC2046,SC2086 # a list
	./runtest --clients 2 --timeout 300 --tags -slow $(printf -- '--single %s ' $units)
	;;
esac
