#!/bin/sh
# Make a root directory with the services for which there are policies, from Debian's packages:
#   testdata/systemd/services.sh DIR
# Nothing is started in it, and one that is there is left as it is.
set -eu
[ ! -e "$1/usr/sbin/unbound" ] || exit 0
exec unshare --fork --pid --mount --mount-proc --kill-child debootstrap --variant=minbase --include=\
systemd,systemd-sysv,dbus,procps,iproute2,util-linux,python3,python3-pika,curl,\
nginx-light,apache2,redis-server,memcached,postgresql,mariadb-server,haproxy,unbound,bind9,chrony,postfix,\
dovecot-imapd,rabbitmq-server bookworm "$1"
