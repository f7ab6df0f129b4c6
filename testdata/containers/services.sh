# Serve a load from containers with nginx, redis and PostgreSQL of Debian, with Docker's
# engine, in testdata/containers/room.
#
#   sh services.sh RUNTIME MEMJAIL-OCI ROOTFS      in an empty directory
#
# RUNTIME is runc or memjail. The output is whether all was served, and whether an exec in
# the container could open the memory of its first process.
runtime=$1
dir=$PWD
export DOCKER_HOST=unix://$dir/socket DOCKER_CONFIG=$dir
dockerd --data-root "$dir/root" --exec-root "$dir/exec" -H "$DOCKER_HOST" --pidfile "$dir/pid" --storage-driver overlay2 \
	--iptables=false --bridge=none --add-runtime "memjail=$2" --default-runtime "$runtime" >log 2>&1 &
daemon=$!
for _ in $(seq 300); do docker info >/dev/null 2>&1 && break; sleep .1; done
tar -C "$3" -c . | docker import - services >/dev/null || cat log

run="docker run -d --network host"
postgres=$(ls -d "$3"/usr/lib/postgresql/*)
version=${postgres##*/}
$run --name nginx services nginx -g 'daemon off;' >/dev/null
$run --name redis --user redis services redis-server --dir /tmp --port 6390 >/dev/null
$run --name postgres --user postgres services "/usr/lib/postgresql/$version/bin/postgres" \
	-D "/var/lib/postgresql/$version/main" -c "config_file=/etc/postgresql/$version/main/postgresql.conf" \
	-c unix_socket_directories=/tmp >/dev/null

# until COMMAND...: wait until the command succeeds
until_ok() {
	for _ in $(seq 150); do "$@" >/dev/null 2>&1 && return; sleep .1; done
	echo "does not answer: $*"
}
until_ok python3 -c 'import urllib.request as u; u.urlopen("http://127.0.0.1/")'
until_ok docker exec redis redis-cli -p 6390 ping
until_ok docker exec postgres psql -h /tmp -c 'select 1'

echo "nginx: $(python3 - <<'PY'
import concurrent.futures, urllib.request
get = lambda _: urllib.request.urlopen("http://127.0.0.1/", timeout=10).status
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    print(sum(status == 200 for status in pool.map(get, range(2000))), "of 2000")
PY
)"
echo "redis: $(docker exec redis redis-benchmark -p 6390 -n 20000 -c 20 -q -t set,get | tr '\r' '\n' | grep -c 'requests per second.*p50')"
docker exec redis redis-cli -p 6390 bgsave >/dev/null
until_ok docker exec redis test -s /tmp/dump.rdb
echo "postgres: $(docker exec postgres sh -c 'pgbench -q -i -s 1 -h /tmp postgres && pgbench -c 4 -t 250 -h /tmp postgres' 2>&1 |
	grep -o 'number of transactions actually processed: .*')"
for name in nginx redis postgres; do
	echo "$name, memory: $(docker exec $name sh -c '(: </proc/1/mem) 2>/dev/null && echo open')"
	docker stop -t 10 $name >/dev/null
	echo "$name, status: $(docker inspect $name --format '{{.State.ExitCode}}')"
done
kill $daemon
wait $daemon
