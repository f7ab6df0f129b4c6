# Run containers with Podman, in testdata/containers/room.
#
#   sh podman.sh RUNTIME ROOTFS POLICY [RUNTIME-FLAGS...]      in an empty directory
#
# RUNTIME is the path of runc or memjail-oci, POLICY what io.memjail.policy chooses. The
# output is as that of docker.sh.
runtime=$1 rootfs=$2 policy=$3
shift 3
attack='dd if=/proc/1/mem bs=4096 skip=1024 count=1 2>/dev/null | head -c 4 | tail -c 3'
podman="podman --root $PWD/root --runroot $PWD/run --tmpdir $PWD/tmp --storage-driver vfs --cgroup-manager cgroupfs
	--events-backend file --runtime $runtime $*"
limits="--ulimit nofile=1024:1024 --ulimit nproc=1000:1000"
tar -C "$rootfs" -c . | $podman import - busybox >/dev/null 2>&1

run="$podman run --rm --network none $limits"
out=$($run busybox sh -c "$attack; exit 4")
echo "run: status $? $out"
echo "user: $($run --user 1000:1000 busybox sh -c "$attack; id -u")"
echo "read-only, no capabilities: $($run --read-only --cap-drop ALL busybox sh -c "$attack")"
echo "terminal: $($run -t busybox sh -c "echo \$(tty) \$($attack)" </dev/null | tr -d '\r')"
echo passed | { exec 3<&0; echo "descriptor: $($run --preserve-fds 1 busybox sh -c 'cat <&3')"; }

$podman run -d --name web --network none $limits --health-cmd "$attack >/tmp/health; test ! -s /tmp/health" \
	busybox sh -c 'trap "echo stopped; exit 7" TERM; while :; do sleep 0.1; done' >/dev/null 2>&1
echo "exec: $($podman exec web sh -c "$attack")"
echo "exec as user: $($podman exec --user 1000 -e A=b -w /tmp web sh -c 'echo $(id -u) $A $PWD')"
$podman healthcheck run web >/dev/null 2>&1
echo "health check: status $?"
$podman exec web sh -c 'kill -TERM 1' 2>/dev/null
echo "signal from exec: status $?"
$podman stop web >/dev/null 2>&1
echo "stop: $($podman logs web) status $($podman inspect web --format '{{.State.ExitCode}}')"

printf 'FROM busybox\nRUN echo "build step: $(%s)"; echo built >/bin/x || echo built >/tmp/x\n' "$attack" >Containerfile
$podman build --network none $limits -t localhost/built . 2>&1 | grep '^build step:'
echo "built: $($run localhost/built cat /bin/x /tmp/x 2>/dev/null)"

$podman pod create --name pod --network none --share ipc,uts >/dev/null 2>&1
$podman run -d --pod pod --name member $limits busybox sleep 100 >/dev/null 2>&1
echo "pod: $($podman exec member sh -c "$attack")"
$podman pod rm -f -t 0 pod >/dev/null 2>&1

echo "annotation: $($run --annotation io.memjail.policy="$policy" busybox sh -c "$attack; touch /bin/y && echo written")"
echo "annotation, not allowed: $($run --annotation io.memjail.policy=strict busybox echo started 2>&1 |
	grep -o 'started\|not among what the administrator allows')"
