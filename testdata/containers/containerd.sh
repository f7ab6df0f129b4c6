# Run containers with containerd, by ctr and by CRI, in testdata/containers/room.
#
#   sh containerd.sh RUNTIME BINARY IMAGE CONFIG CRI-CLIENT      in an empty directory
#
# RUNTIME is runc or memjail, BINARY the path of runc or memjail-oci, IMAGE an OCI image
# (tar) with the name docker.io/library/busybox:1, CONFIG containerd's configuration. The
# output is as that of docker.sh.
attack='dd if=/proc/1/mem bs=4096 skip=1024 count=1 2>/dev/null | head -c 4 | tail -c 3'
image=docker.io/library/busybox:1
containerd -c "$4" >log 2>&1 &
daemon=$!
ctr="ctr -a $PWD/socket"
for _ in $(seq 300); do $ctr version >/dev/null 2>&1 && break; sleep .1; done
$ctr image import --snapshotter native "$3" >/dev/null || cat log
$ctr -n k8s.io image import --snapshotter native "$3" >/dev/null

run="run --snapshotter native --runc-binary $2"
out=$($ctr $run --rm $image one sh -c "$attack; exit 4")
echo "run: status $? $out"
$ctr $run -d $image web sleep 100
echo "exec: $($ctr task exec --exec-id e web sh -c "$attack")"
$ctr task kill -s TERM web
$ctr task delete -f web >/dev/null 2>&1

"$5" -socket "$PWD/socket" -image $image -handler "$1" || tail -n 20 log
kill $daemon
wait $daemon
