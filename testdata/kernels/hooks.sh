# The capability where other BPF programs fill its hooks, and where the cgroup that it was
# installed in has no memory left. TestCapabilityHooks reads the lines.
left() { ls -A /sys/fs/bpf/memjail 2>/dev/null | wc -l; }
hooks file_open 0 memjail capability install 2>&1
echo "core hook full: status $?, left $(left)"
hooks file_open 1 memjail capability install
echo "room for one: status $?"
memjail capability uninstall
hooks task_setrlimit 0 memjail capability install
echo "optional hook full: status $?"
memjail capability status
echo "status: $?"
memjail capability uninstall
echo "handles: $(attack control handles)"
[ "$1" = hooks ] && exit

echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/limited
sh -c 'echo $$ >/sys/fs/cgroup/limited/cgroup.procs; memjail capability install'
echo "unlimited $(attack drop children 300)" # few: the kernel keeps what they leave for the next
echo 0 >/sys/fs/cgroup/limited/memory.max
echo "limited $(attack drop children 3000)"
