# Run in a fresh Debian as root: installs, upgrades and removes the packages in /tmp.
cd /tmp
quiet() { "$@" >log 2>&1 || { cat log; exit 1; }; }

quiet dpkg -i first.deb
echo "installed: $(memjail version)"
echo "run: $(memjail run -- sh -c '(: </proc/self/mem) 2>/dev/null && echo open || echo closed')"
echo "files: $(dpkg -V memjail | wc -l) changed"

# A wrapped service, whose package then changes the command. The check is that of systemd's
# absence: memjail reads the files itself.
mkdir -p /usr/lib/systemd/system /etc/systemd/system
printf '[Service]\nExecStart=/bin/true one\n' >/usr/lib/systemd/system/x.service
quiet memjail systemd drop-in --force x.service
mkdir -p change/DEBIAN change/usr/lib/systemd/system
printf 'Package: change\nVersion: 1\nArchitecture: all\nMaintainer: test <test@localhost>\nDescription: test\n' >change/DEBIAN/control
printf '[Service]\nExecStart=/bin/true two\n' >change/usr/lib/systemd/system/x.service
quiet dpkg-deb -b change change.deb
dpkg -i change.deb >log 2>&1 || cat log
echo "triggered: $(grep '^memjail:' log)"

quiet dpkg -i second.deb
echo "upgraded: $(memjail version)"
dpkg -r memjail >log 2>&1 && cat log
echo "refused: $(grep '^memjail:' log)"
quiet memjail systemd remove x.service
quiet dpkg -r memjail
left=$(find /usr /etc -name '*memjail*' -not -path '/usr/share/doc/*')
echo "removed: ${left:-nothing is left}"
