# What becomes of /proc under Yama, as an ordinary user: one line each, which
# TestYama reads.
scope=/proc/sys/kernel/yama/ptrace_scope

# A job that is stopped twice and goes on: supervision is handed over meanwhile.
read_comm() { echo "read -r name </proc/self/comm && echo scope $1 $2 granted"; }
for s in 0 1; do
	echo $s >$scope
	rm -f /tmp/pid
	su user -c "exec memjail run -- sh -c 'echo \$\$ >/tmp/pid; $(read_comm $s first); kill -STOP \$\$; $(read_comm $s second); kill -STOP \$\$; $(read_comm $s third)'" 2>/tmp/said &
	job=$!
	while [ -d /proc/$job ]; do
		if grep -q '^State:.*T' /proc/$job/status; then
			kill -CONT $job $(cat /tmp/pid)
		fi
		sleep 0.3
	done
	wait $job
	sed "s/^/scope $s says: /" /tmp/said
done

# A scope that memjail cannot look up: only the supervisor notices.
for s in 1 2; do
	echo $s >$scope
	mount -t tmpfs none /proc/sys/kernel/yama
	for command in run exec; do
		su user -c "memjail $command -- sh -c 'read -r name </proc/self/comm && echo hidden $s $command granted'" 2>&1 | sed "s/^memjail/hidden $s $command says: memjail/"
	done
	umount /proc/sys/kernel/yama
done
