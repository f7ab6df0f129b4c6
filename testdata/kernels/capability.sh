# The memory capability on this kernel: installed, attacked as a user and as root,
# taken away from, upgraded, uninstalled. TestCapability reads the lines. With the
# argument "short" only what takes little time.
say() { echo "$*"; }
user() { su user -c "$*"; }
settle() { sleep 3; } # the kernel lets go of programs a moment later

# What the capability alone leaves open.
outside="own_process_vm outside_fd ring_inherited outside_descriptor_kept"
harmless="receive_plain receive_own own_files own_thread_by_number own_core_limit own_id_maps child_id_maps
	prctl_answers supervisor_of_it reused_tasks counted_before shared_until_exec"
harmless=$(echo $harmless)
root="fork_waits dev_mem kcore dev_uffd bpf_call tracefs_file kallsyms marks_changed pin_removed pin_renamed pin_directory_removed bpffs_unmounted"
all=all
if [ "$1" = short ]; then
	all="own_mem child_exec old_thread_execs sibling inside_trace outside_mem outside_trace receive_mem traced_before
		recorded_before shared_before shared_table_before receive_others core_limit_lowered id_maps_without_right
		exec_memfd core_limit_before other_thread_setuid interpreter_memfd ring_polled injected_mem"
	all=$(echo $all)
	root="marks_changed pin_removed"
fi

sysctl -q -w kernel.perf_event_paranoid=2 kernel.yama.ptrace_scope=0 vm.nr_hugepages=4 2>/dev/null
sysctl -q -w vm.unprivileged_userfaultfd=1 kernel.unprivileged_userns_clone=1 2>/dev/null
echo core >/proc/sys/kernel/core_pattern
cp /bin/attack /tmp/setuid && chmod 4755 /tmp/setuid
mount -t tracefs tracefs /sys/kernel/tracing
bpffs() { mkdir -p /tmp/bpffs && mount -t bpf bpf /tmp/bpffs; }

say "== control"
bpffs
user attack control $all $outside $harmless
attack control $root
bpffs
echo 0 >/proc/sys/kernel/ftrace_enabled && say "ftrace open $(cat /proc/sys/kernel/ftrace_enabled)"
memjail capability install 2>&1
say "install while ftrace is off: status $?"
echo 1 >/proc/sys/kernel/ftrace_enabled

say "== install"
user memjail capability install 2>&1
say "install as a user: status $?"
memjail capability install
say "install: status $?"
memjail capability status
say "status: status $?"
user memjail capability status
say "status as a user: status $?"

# The pins and the holder's FIFO belong to root; root itself can list them.
fifo=$(ls -d /run/memjail/capability-*)
hostile() { user "$1" 2>/dev/null && say "a user can: $1"; }
hostile "ls /sys/fs/bpf/memjail/"
hostile "rm -r /sys/fs/bpf/memjail"
hostile "mv /sys/fs/bpf/memjail /sys/fs/bpf/other"
hostile "umount /sys/fs/bpf"
hostile "echo end >$fifo"
hostile "memjail capability uninstall --force"
say "root lists the pins: $(ls /sys/fs/bpf/memjail | grep -c marks), $(test -p "$fifo" && echo and the FIFO)"

say "== drop"
user attack drop $all $harmless
attack drop $root
say "== still open"
user attack drop $outside
user attack control inside_mem

say "== ended"
count='memjail capability status | grep -o "[0-9]* threads"'
say "living: $(attack drop kept 100 living "$count")"
say "ended: $(attack drop kept 100 ended "$count")"

say "== switch"
echo 0 2>/dev/null >/proc/sys/kernel/ftrace_enabled || say "ftrace closed $(cat /proc/sys/kernel/ftrace_enabled)"
echo 1 2>/dev/null >/proc/sys/kernel/randomize_va_space && say "other settings open"
[ "$1" = short ] && exit 0

# Installed again, and with other settings, under processes that have dropped it: they
# and their children never have it meanwhile. The control takes it out in between.
say "== again"
user "attack drop race 30" >/tmp/race &
sleep 2
memjail capability install && memjail capability install --no-administrator && memjail capability install
wait $!
say "while installed again: $(cat /tmp/race)"
for try in 1 2 3 4 5; do # a busy host may let nobody run in between
	user "attack drop race 15" >/tmp/race &
	sleep 2
	memjail capability uninstall --force && settle && memjail capability install
	wait $!
	grep -q "race: 0 of" /tmp/race || break
done
say "while taken out: $(cat /tmp/race)"

# Processes drop it while it is uninstalled: either the uninstallation or the drop is
# refused. The control uninstalls it by force.
say "== uninstalled under drops"
attack drop pause 5000
say "a drop while it is being uninstalled: $(user "attack drop droppers /")"
attack drop pause 0
say "a user who wants to keep others from it: $(user "attack drop pause 60000")"
user "attack drop droppers /tmp/stop" >/tmp/droppers &
for i in $(seq 15); do
	sleep 0.$((i % 10))
	memjail capability uninstall >/dev/null 2>&1 && memjail capability install >/dev/null && say "uninstalled once"
done
: >/tmp/stop
wait $!
say "uninstalled: $(cat /tmp/droppers)"
rm /tmp/stop
user "attack drop droppers /tmp/stop" >/tmp/droppers &
sleep 2
memjail capability uninstall --force && memjail capability install
: >/tmp/stop
wait $!
say "uninstalled by force: $(cat /tmp/droppers)"

say "== pins"
mkfifo /tmp/ask /tmp/told
user "attack drop wait" </tmp/ask >/tmp/told &
exec 8>/tmp/ask 9</tmp/told
tries() { echo >&8; read -r line <&9; say "$1: $line"; }
read -r line <&9
tries "dropped"
memjail capability uninstall 2>&1
say "uninstall while it lives: status $?"
memjail capability install --outside all
say "upgrade: status $?"
tries "after the upgrade"
say "outsiders now: $(user attack drop outside_fd), without the drop: $(user attack control outside_fd)"
umount -l /sys/fs/bpf
settle
tries "after umount of the pins"
say "new drops then: $(user attack drop own_mem)"
memjail capability uninstall 2>&1
say "uninstall without the pins: status $?"
memjail capability uninstall --force
say "uninstall by force: status $?"
settle
tries "after the end of the holder, too"
memjail capability status
say "status: status $?"
memjail capability install
say "installed again: status $?"
memjail capability uninstall
say "uninstall: status $?"
say "after that: $(user attack control own_mem)"
