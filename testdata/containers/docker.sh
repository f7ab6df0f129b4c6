# Run containers with Docker's engine, in testdata/containers/room.
#
#   sh docker.sh RUNTIME MEMJAIL-OCI ROOTFS      in an empty directory
#
# RUNTIME is runc or memjail. Each line of output is the name of an attempt and what it
# read of the memory of the container's first process: ELF, or nothing.
runtime=$1
attack='dd if=/proc/1/mem bs=4096 skip=1024 count=1 2>/dev/null | head -c 4 | tail -c 3'
dir=$PWD
export DOCKER_HOST=unix://$dir/socket DOCKER_CONFIG=$dir DOCKER_BUILDKIT=0
cat >daemon.json <<JSON
{
	"runtimes": {"memjail": {"path": "$2"}},
	"default-runtime": "$runtime",
	"data-root": "$dir/root", "exec-root": "$dir/exec", "hosts": ["$DOCKER_HOST"], "pidfile": "$dir/pid",
	"storage-driver": "overlay2", "iptables": false, "bridge": "none"
}
JSON
dockerd --config-file daemon.json >log 2>&1 &
daemon=$!
for _ in $(seq 300); do docker info >/dev/null 2>&1 && break; sleep .1; done
tar -C "$3" -c . | docker import - busybox >/dev/null || cat log

run="docker run --rm --network none"
out=$($run busybox sh -c "$attack; exit 4")
echo "run: status $? $out"
echo "user: $($run --user 1000:1000 busybox sh -c "$attack; id -u")"
echo "read-only, no capabilities: $($run --read-only --cap-drop ALL busybox sh -c "$attack")"
echo "no_new_privileges: $($run --security-opt no-new-privileges busybox sh -c "$attack")"
echo "init: $($run --init busybox sh -c "$attack" 2>/dev/null)"
echo "terminal: $($run -t busybox sh -c "echo \$(tty) \$($attack)" </dev/null | tr -d '\r')"
echo "volume: $($run --tmpfs /data -w /data busybox sh -c 'echo x >y && cat y && pwd' | tr '\n' ' ')"
$run busybox nosuch >/dev/null 2>&1
echo "not found: status $?"

docker run -d --name web --network none --health-cmd "$attack >/tmp/health; cat /tmp/health" --health-interval 1s \
	busybox sh -c 'trap "echo stopped; exit 7" TERM; while :; do sleep 0.1; done' >/dev/null
echo "exec: $(docker exec web sh -c "$attack")"
echo "exec as user: $(docker exec --user 1000 -e A=b -w /tmp web sh -c 'echo $(id -u) $A $PWD')"
echo "exec with a terminal: $(docker exec -t web tty </dev/null | tr -d '\r')"
for _ in $(seq 100); do
	docker inspect web --format '{{range .State.Health.Log}}{{println .ExitCode .Output}}{{end}}' >health
	grep -q . health && break
	sleep .1
done
echo "health check: $(head -n 1 health)"
docker stop web >/dev/null
echo "stop: $(docker logs web) status $(docker inspect web --format '{{.State.ExitCode}}')"

printf 'FROM busybox\nRUN echo "build step: $(%s)"; echo built >/tmp/x\n' "$attack" |
	docker build --network none -t built - 2>&1 | grep '^build step:'
echo "built: $($run built cat /tmp/x)"
echo "in the image: $(docker run --name trace --network none busybox true; docker export trace | tar -t | grep memjail)"

if [ "$runtime" = memjail ]; then
	echo '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["landlock_add_rule"],"action":"SCMP_ACT_ERRNO"}]}' >s.json
	$run --security-opt seccomp=s.json busybox true 2>&1 | grep -o 'memjail: .*seccomp profile refuses [a-z_]*'
	$run -v /dev:/dev busybox true 2>&1 | grep -o 'memjail: .*no /dev of its own'
fi
kill $daemon
wait $daemon
