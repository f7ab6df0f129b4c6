# Run a bundle with an OCI runtime and attack the memory of its first process.
#
#   sh bundle.sh RUNTIME [ARGS...]      in a directory with config.json and rootfs
#
# Each line of output is the name of an attempt and what it read: the letters ELF are at
# the beginning of a program in memory.
attack='dd if=/proc/1/mem bs=4096 skip=1024 count=1 2>/dev/null | head -c 4 | tail -c 3'

"$@" --version | head -n 1
"$@" state one >/dev/null 2>&1 && echo "there is a container already"

("$@" run one; echo "run: status $?") </dev/null 2>&1 | cat >out &
run=$!
for _ in $(seq 200); do
	grep -q ^first: out && break
	sleep .05
done

echo "exec: $("$@" exec one sh -c "$attack" </dev/null)"
"$@" exec --env A=b --env PATH=/bin --cwd /tmp one sh -c 'echo "exec environment: $A $PWD"; exit 3' </dev/null | cat
"$@" exec --process process.json one </dev/null | cat
"$@" exec one sh -c 'exit 9' </dev/null
echo "exec: status $?"

# What the container might do to memjail.
"$@" exec one sh -c '
for f in /dev/.memjail/memjail /proc/1/exe; do
	[ -e $f ] && (echo x >>$f) 2>/dev/null && echo "changed: $f"
done
for d in /dev/.memjail /dev/own; do
	[ -d /dev/own ] || mkdir /dev/own 2>/dev/null
	mv $d $d.away 2>/dev/null && echo "moved: $d"
	[ -e $d ] && touch $d/x 2>/dev/null && echo "written: $d"
	mount -t tmpfs tmpfs $d 2>/dev/null && echo "mounted: $d"
done
echo changes: tried' </dev/null | cat
echo "exec again: $("$@" exec one sh -c "$attack" </dev/null)"

"$@" kill one TERM
wait $run
cat out
"$@" delete one 2>/dev/null
"$@" state one >/dev/null 2>&1 || echo "gone"
