# "memjail run" and "exec" where the memory capability is installed, as root and as a
# user. TestCapabilityShape reads the lines.
say() { echo "$*"; }
as() { if [ "$1" = root ]; then sh -c "$2"; else su user -c "$2"; fi; }
cat >/tmp/writes-nothing.toml <<'X'
version = 1
[procfs]
write = []
[paths]
metadata = "allow"
X
cat >/tmp/paths.toml <<'X'
version = 1
[paths]
rox = ["/bin", "/usr"]
ro = ["/etc"]
rw = ["/dev/null"]
X
cat >/tmp/inside <<'X'
opens() { (eval "exec 3$1") 2>/dev/null && echo open || echo closed; }
echo "memory to write: $(opens '<>/proc/self/mem')"
echo "memory to read: $(opens '</proc/self/mem')"
echo "maps: $(opens '</proc/self/maps')"
echo "of another: $(opens '</proc/1/maps')"
echo "status of another: $(opens '</proc/1/status')"
echo "comm: $(sh -c 'echo renamed >/proc/self/comm; read name </proc/$$/comm; echo $name' 2>/dev/null)"
X
say "== control"
sh /tmp/inside
memjail capability install || exit 1
mkdir -p /tmp/other && mount -t proc proc /tmp/other
for who in root user; do
	for command in "run -q" "exec -q" "run -q -p /tmp/writes-nothing.toml" "run -q -- memjail run -q"; do
		say "== $who $command"
		as $who "memjail $command -- sh /tmp/inside" 2>&1
	done
	say "== $who more"
	say "shape: $(as $who "memjail run -v -- true" 2>&1 | grep -o "the memory capability decides")"
	say "shape without a supervisor: $(as $who "memjail run -v -p /tmp/writes-nothing.toml -- true" 2>&1 | grep -o "none can be written (no supervisor)")"
	say "shape without it: $(as $who "memjail run -v --no-capability -- true" 2>&1 | grep -o "a supervisor grants its harmless files")"
	say "explained: $(as $who "memjail policy explain --read /proc/self/maps --read /proc/self/mem --write /proc/self/mem --write /proc/self/comm" | sed -n 's/^ *layer *//p' | tr '\n' ' ')"
	say "memfds: $(as $who "memjail policy explain --call memfd_create" | grep -c HUGETLB)"
	say "shown: $(as $who "memjail policy show" 2>&1 | grep -o "the memory capability decides")"
	say "examined: $(as $who "memjail doctor" 2>&1 | grep -c "memory capability  *installed")"
	say "proc can be listed under path rules: $(as $who "memjail run -q -p /tmp/paths.toml -- ls /proc" 2>/dev/null | grep -c "^cpuinfo")"
	say "procfs mounted elsewhere: $(as $who "memjail run -q --allow private-mounts=no -- sh -c ': </tmp/other/self/mem && echo open'" 2>/dev/null)"
	say "interrupted: $(as $who "memjail run -q -- eintr /etc/passwd 200000" 2>&1)"
done
say "procfs mounted elsewhere, outside: $(sh -c ': </tmp/other/self/mem && echo open')"
say "interrupted, outside: $(eintr /etc/passwd 20000)"
say "interrupted, with a supervisor: $(memjail run -q --no-capability -- eintr /etc/passwd 20000)"
