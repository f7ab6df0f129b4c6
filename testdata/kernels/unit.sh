# memjail-capability.service under a real systemd, which is process 1 of a namespace.
# TestCapabilityUnit reads the lines.
say() { echo "$*"; }
mount -t tmpfs run /run
mkdir -p /etc/systemd/system/sysinit.target.wants /var/log /run/systemd
: >/etc/machine-id
ln -s ../memjail-capability.service /etc/systemd/system/sysinit.target.wants/
service() { # NAME EXECSTART
	printf '[Service]\nType=oneshot\nExecStart=%s\nStandardOutput=file:/run/%s\n' "$2" "$1" >/etc/systemd/system/$1.service
}
opens="/usr/bin/dash -c '(exec 3</proc/self/mem) 2>/dev/null && echo open || echo closed'"
service plain "$opens"
service kept "$opens"
service wrapped "/usr/local/bin/memjail drop -- $opens"
printf '[Unit]\nDefaultDependencies=no\n' >/etc/systemd/system/early.service
printf '[Service]\nType=oneshot\nExecStart=%s\nStandardOutput=file:/run/early\n' "$opens" >>/etc/systemd/system/early.service
mkdir -p /etc/systemd/system/memjail-capability.service.d # emulation is slow
printf '[Service]\nTimeoutStartSec=15min\n' >/etc/systemd/system/memjail-capability.service.d/slow.conf
cat >/etc/systemd/system/test.target <<'X'
[Unit]
Requires=basic.target
After=basic.target
AllowIsolate=yes
X

say "before: $(/usr/local/bin/memjail capability status | head -n 1)"
container=guest busybox unshare -p -f -m sh -c 'mount -t proc proc /proc
	exec /lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=no' >/run/console 2>&1 &
manager() { nsenter -t "$(pidof systemd | awk '{ print $NF }')" -m -p "$@"; } # systemd answers who it sees
systemctl() { manager /usr/bin/systemctl "$@"; }
memjail() { manager /usr/local/bin/memjail "$@"; } # the pins are in its mount namespace
for i in $(seq 1500); do
	[ "$(systemctl is-active test.target 2>/dev/null)" = active ] && break
	sleep 0.2
done
say "manager: $(systemctl --version | head -n 1)"
active() { say "$1: $(systemctl is-active memjail-capability) $(systemctl show -P SubState memjail-capability), $(memjail capability status | head -n 1), $(memjail capability status | grep -c 'only the pins')"; }
run() { systemctl start "$1" && say "$2: $(cat /run/$1)"; }
active "booted"
say "limit: $(systemctl show -P MemoryMax memjail-capability)"
run plain "a service"
run wrapped "a service with drop"
mkdir -p /etc/systemd/system/service.d /etc/systemd/system/kept.service.d
cp /10-memory.conf /etc/systemd/system/service.d/
printf '[Service]\nEnvironment=LD_PRELOAD=\n' >/etc/systemd/system/kept.service.d/20-kept.conf
systemctl daemon-reload
run plain "a service with the drop-in for all"
run kept "a service that keeps it"
systemctl restart memjail-capability
active "restarted"
manager kill -9 "$(systemctl show -P MainPID memjail-capability)"
for i in $(seq 100); do
	sleep 0.3
	[ "$(systemctl show -P SubState memjail-capability)" = running ] && break
done
active "after its end"
systemctl stop memjail-capability
active "stopped"
memjail capability uninstall
run plain "a service where it is not installed"
grep memjail /run/console | tail -n 20
