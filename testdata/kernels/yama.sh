# What becomes of /proc under Yama, as an ordinary user: one line each, which
# TestYama reads.
scope=/proc/sys/kernel/yama/ptrace_scope

# A job that is stopped twice and goes on, and ends by itself.
read_comm() { echo "read -r name </proc/self/comm && echo scope $1 $2 granted"; }
for s in 0 1; do
	echo $s >$scope
	rm -f /tmp/pid
	su user -c "exec memjail run -- sh -c 'echo \$\$ >/tmp/pid; $(read_comm $s first); kill -STOP \$\$; $(read_comm $s second); kill -STOP \$\$; $(read_comm $s third); exit 7'" 2>/tmp/said &
	job=$!
	while [ -d /proc/$job ] && ! grep -q '^State:.*Z' /proc/$job/status; do
		if grep -q '^State:.*T' /proc/$job/status; then
			kill -CONT $job $(cat /tmp/pid)
		fi
		sleep 0.3
	done
	wait $job
	echo "scope $s: stopped twice, status $?"
	sed "s/^/scope $s says: /" /tmp/said
done

# What the command leaves behind: it is served, and keeps nobody waiting.
for s in 0 1; do
	echo $s >$scope
	su user -c "memjail run -- sh -c '(sleep 1; $(read_comm $s left); sleep 1; $(read_comm $s later)) >/tmp/left 2>&1 & exit 5' | cat; echo scope $s ended" 2>&1
	[ -s /tmp/left ] && echo "scope $s: the command's end was waited for"
	su user -c "memjail run --status-fd 3 -- sh -c '(sleep 2) & exit 5' 3>&1 >/dev/null" | sed "s/^/scope $s status: /;s/\"pid\":[0-9]*,//"
	sleep 3
	cat /tmp/left
	rm -f /tmp/left
	ps -o pid,comm,args | grep 'memjail[ :]' | grep -v grep | sed "s/^/scope $s still there: /"
done

# Signals reach the command once, and its end by one is memjail's.
for s in 0 1; do
	echo $s >$scope
	su user -c "exec memjail run -- sh -c 'trap \"echo scope $s TERM; echo >/tmp/term$s\" TERM; trap \"echo scope $s USR1; kill -KILL \\\$\\\$\" USR1; echo >/tmp/ready$s; while :; do sleep 0.1; done'" &
	job=$!
	until [ -e /tmp/ready$s ]; do sleep 0.1; done
	kill -TERM $job
	until [ -e /tmp/term$s ]; do sleep 0.1; done
	kill -USR1 $job
	wait $job
	echo "scope $s: ended with $?"
	rm -f /tmp/pid
	su user -c "exec memjail run -- sh -c 'echo \$\$ >/tmp/pid; while :; do sleep 0.1; done'" &
	job=$!
	until [ -s /tmp/pid ]; do sleep 0.1; done
	kill -KILL $job
	sleep 1
	[ -d /proc/$(cat /tmp/pid) ] && echo "scope $s: the command outlives a killed memjail"
done

# Where a limit leaves no room for another process, one line says what is lost.
echo 1 >$scope
rm -f /tmp/log
su user -c "ulimit -u 120; exec memjail run --log /tmp/log -- sh -c 'echo \$\$ >/tmp/pid; kill -STOP \$\$; $(read_comm 1 limited)'" 2>/tmp/said &
job=$!
until grep -q '^State:.*T' /proc/$job/status; do sleep 0.2; done
kill -CONT $job $(cat /tmp/pid)
wait $job
sed "s/^/limited says: /" /tmp/said
sed "s/^/limited log: /" /tmp/log

# A scope that memjail cannot look up: only the supervisor notices.
for s in 1 2; do
	echo $s >$scope
	mount -t tmpfs none /proc/sys/kernel/yama
	for command in run exec; do
		su user -c "memjail $command -- sh -c 'read -r name </proc/self/comm && echo hidden $s $command granted'" 2>&1 | sed "s/^memjail/hidden $s $command says: memjail/"
	done
	umount /proc/sys/kernel/yama
done
