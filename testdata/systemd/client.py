#!/usr/bin/python3
"""Serve a load to a service of this system, and say how much of it was answered.

    client.py NAME [configure]

With "configure" it writes what the service needs to be asked from here.
"""

import http.client
import imaplib
import os
import smtplib
import socket
import struct
import subprocess
import sys
import time

MANY = 500


def write(name, text):
    os.makedirs(os.path.dirname(name), exist_ok=True)
    with open(name, "w") as f:
        f.write(text)


def shell(lines, **more):
    return subprocess.run(["sh", "-ec", lines], check=True, text=True, stdout=subprocess.PIPE, **more).stdout


def wait_for(port, kind=socket.SOCK_STREAM):
    for _ in range(100):
        try:
            return socket.create_connection(("127.0.0.1", port), 5)
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"nobody listens on port {port}")


def http_get(port):
    wait_for(port).close()
    good = 0
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    for _ in range(MANY):
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):  # a server that is being reloaded ends idle ones
            connection.close()
            connection.request("GET", "/")
            answer = connection.getresponse()
        good += answer.status == 200 and len(answer.read()) > 1
    return f"{good} pages"


def lines(port, sent, want):
    with wait_for(port) as s:
        f = s.makefile("rwb")
        good = 0
        for i in range(MANY):
            f.write(sent(i))
            f.flush()
            good += f.readline().strip() == want(i)
        return good


def redis():
    good = lines(6379, lambda i: b"SET k%d v\r\n" % i, lambda i: b"+OK")
    shell("redis-cli save; redis-cli config rewrite")
    return f"{good} writes, {shell('redis-cli dbsize').strip()} keys, saved"


def memcached():
    good = lines(11211, lambda i: b"set k%d 0 0 1\r\nv\r\n" % i, lambda i: b"STORED")
    return f"{good} writes"


def as_postgres(line):
    return shell(f"cd /tmp; runuser -u postgres -- sh -ec '{line}' 2>&1")


def postgresql():
    as_postgres("dropdb --if-exists bench; createdb bench; pgbench -q -i bench")
    out = as_postgres("pgbench -c 4 -j 2 -t 125 bench")
    done = [line.split(": ")[1] for line in out.splitlines() if "actually processed" in line]
    return f"{done[0]} transactions"


def mariadb():
    rows = "".join(f"insert into t values ({i});" for i in range(MANY))
    return shell("mariadb -N -e 'create database if not exists b; create or replace table b.t (i int) engine=innodb'; "
                 "mariadb b; mariadb -N -e 'select count(*), sum(i) from b.t'", input=rows).split()[0] + " rows"


def dns(name):
    question = b"".join(bytes([len(p)]) + p for p in name.encode().split(b".")) + b"\0\0\1\0\1"
    good = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(2)
        s.connect(("127.0.0.1", 53))
        deadline = time.time() + 10
        i = 0
        while i < MANY and time.time() < deadline:
            try:
                s.send(struct.pack(">6H", i, 0x100, 1, 0, 0, 0) + question)
                answer = s.recv(999)
            except OSError:
                time.sleep(0.1)
                continue
            i += 1
            good += struct.unpack(">4H", answer[:8])[3] > 0
    return f"{good} answers"


def chrony():
    good = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(2)
        s.connect(("127.0.0.1", 123))
        for _ in range(100):
            try:
                s.send(b"\x23" + bytes(47))
                good += s.recv(999)[1] == 8
            except OSError:
                time.sleep(0.1)
    return f"{min(good, 90)} times at least; {len(shell('chronyc -n tracking').splitlines())} lines of chronyc"


def inbox():
    try:
        with open("/var/mail/mailuser") as f:
            return sum(line.startswith("Subject: test") for line in f)
    except OSError:
        return 0


def postfix():
    wait_for(25).close()
    before = inbox()
    with smtplib.SMTP("127.0.0.1", 25) as s:
        for i in range(20):
            s.sendmail("root@localhost", ["mailuser@localhost"], f"Subject: test {i}\n\ntext\n")
    shell("for i in 1 2 3; do printf 'Subject: test\\n\\ntext\\n' | sendmail mailuser@localhost; done")
    deadline = time.time() + 15
    while inbox() < before + 23 and time.time() < deadline:
        time.sleep(0.2)
    return f"{inbox() - before} mails delivered"


def dovecot():
    wait_for(143).close()
    with imaplib.IMAP4("127.0.0.1") as m:
        m.login("mailuser", "secret")
        m.create("box")
        m.select("box")
        for i in range(50):
            m.append("box", None, None, f"Subject: {i}\n\ntext\n".encode())
        m.noop()
        found = m.search(None, "SUBJECT", "1")[1][0].split()
        m.store("1:*", "+FLAGS", r"\Deleted")
        m.expunge()
        left = m.search(None, "ALL")[1][0].split()
    return f"{len(found)} found of 50, {len(left)} left"


def rabbitmq():
    import pika
    for _ in range(100):
        try:
            connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1"))
            break
        except Exception:
            time.sleep(0.3)
    channel = connection.channel()
    channel.queue_declare("q", durable=True)
    channel.queue_purge("q")
    channel.confirm_delivery()
    for i in range(MANY):
        channel.basic_publish("", "q", b"%d" % i, pika.BasicProperties(delivery_mode=2))
    good = sum(channel.basic_get("q", True)[2] == b"%d" % i for i in range(MANY))
    connection.close()
    return f"{good} messages"


LOADS = {
    "nginx": lambda: http_get(80), "apache2": lambda: http_get(80), "haproxy": lambda: http_get(8080),
    "redis": redis, "memcached": memcached,
    "postgresql": postgresql, "mariadb": mariadb, "unbound": lambda: dns("a.test"), "bind9": lambda: dns("localhost"),
    "chrony": chrony, "postfix": postfix, "dovecot": dovecot, "rabbitmq": rabbitmq,
}


def configure(name):
    if name == "haproxy":
        with open("/etc/haproxy/haproxy.cfg", "a") as f:
            f.write("\nfrontend test\n  bind 127.0.0.1:8080\n"
                    "  http-request return status 200 content-type text/plain string answered\n")
    elif name == "unbound":
        write("/etc/unbound/unbound.conf.d/test.conf",
              'server:\n  local-zone: "test." static\n  local-data: "a.test. A 192.0.2.1"\n')
    elif name == "chrony":
        # -x: the clock of this machine is left alone
        write("/etc/default/chrony", 'DAEMON_OPTS="-F 1 -x"\n')
        write("/etc/chrony/conf.d/test.conf", "local stratum 8\nallow 127.0.0.1\n")
    elif name == "postgresql":
        shell("mkdir -p /run/postgresql; chown postgres:postgres /run/postgresql")
        version = os.listdir("/etc/postgresql")[0]
        write(f"/etc/postgresql/{version}/main/conf.d/test.conf", "ssl = off\nfsync = off\n")
    elif name in ("postfix", "dovecot"):
        shell("id mailuser >/dev/null 2>&1 || useradd -m mailuser; echo mailuser:secret | chpasswd")
        if name == "dovecot":
            shell("install -d -o mailuser /var/vmail")
            write("/etc/dovecot/conf.d/99-test.conf", "mail_location = maildir:/var/vmail/%u\nssl = no\n")
    elif name == "rabbitmq":
        write("/etc/rabbitmq/rabbitmq-env.conf", "NODENAME=rabbit@localhost\n")


if len(sys.argv) > 2:
    configure(sys.argv[1])
else:
    print(LOADS[sys.argv[1]]())
