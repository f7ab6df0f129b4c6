#!/usr/bin/python3
"""A service that says through its status what it has: its memory, process number,
sockets and reloads. Arguments: serve, hang (tells the watchdog nothing), child (leaves
a child that goes on reading /proc), daemon PIDFILE, exit N, die N."""
import os
import signal
import socket
import sys
import time


def tell(text):
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.connect("\0" + address[1:] if address[0] == "@" else address)
            s.send(text.encode())


def memory():
    try:
        os.close(os.open("/proc/self/mem", os.O_RDWR))
        return "open"
    except OSError:
        return "closed"


def reads():
    """A file of /proc that is granted by the supervisor."""
    try:
        with open("/proc/self/status") as f:
            return f.readline().split()[1]
    except OSError as e:
        return e.strerror


def status():
    return "memory %s, pid %d, reads %s, reloads %d, sockets %s" % (
        memory(), os.getpid(), reads(), reloads, os.environ.get("LISTEN_FDNAMES", "none"))


def on_reload(*_):
    global reloads
    reloads += 1
    tell("STATUS=" + status())


def on_stop(*_):
    print("stopping, reads", reads(), flush=True)
    sys.exit(0)


def serve(hang):
    listening = []
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        for i in range(int(os.environ["LISTEN_FDS"])):
            listening.append(socket.socket(fileno=3 + i))
            listening[-1].setblocking(False)
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    tell("READY=1\nSTATUS=" + status())
    while True:
        for name, s in zip(names, listening):
            try:
                c, _ = s.accept()
            except BlockingIOError:
                continue
            with c:
                c.sendall(("%s, memory %s\n" % (name, memory())).encode())
        if not hang:
            tell("WATCHDOG=1")
        time.sleep(0.05)


def child(path):
    """A process that the service leaves; it goes on when the service is stopped."""
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            with open(path + ".new", "w") as f:
                f.write("%d %s %f" % (os.getpid(), reads(), time.time()))
            os.rename(path + ".new", path)
            time.sleep(0.05)


def daemon(pidfile):
    ready, tellready = os.pipe()
    if os.fork() > 0:
        os.close(tellready)
        os.read(ready, 1)
        os._exit(0)
    os.setsid()
    if os.fork() > 0:
        os._exit(0)
    with open(pidfile, "w") as f:
        f.write("%d\n" % os.getpid())
    print("daemon", status(), flush=True)
    os.write(tellready, b".")
    while True:
        time.sleep(1)


reloads = 0
signal.signal(signal.SIGHUP, on_reload)
signal.signal(signal.SIGTERM, on_stop)
mode = sys.argv[1]
if mode == "exit":
    time.sleep(0.1)
    sys.exit(int(sys.argv[2]))
elif mode == "die":
    time.sleep(0.1)
    signal.signal(int(sys.argv[2]), signal.SIG_DFL)
    os.kill(os.getpid(), int(sys.argv[2]))
elif mode == "print":
    print(sys.argv[2], status(), flush=True)
elif mode == "daemon":
    daemon(sys.argv[2])
else:
    if mode == "child":
        child(sys.argv[2])
    serve(mode == "hang")
