"""How a program in Python drops the memory capability when it starts."""
import ctypes
import errno
import os
import resource
import time


def drop_memory_capability():
    """True: dropped. False: not installed here."""
    option, query, drop, keep, no_new_privs = 0x4D454D4A, 0x100, 0x101, 1 | 2 | 4 | 8 | 64 | 128, 38
    libc = ctypes.CDLL(None, use_errno=True)
    long = ctypes.c_ulong

    def ask(option, a, b=0):
        return libc.prctl(option, long(a), long(b), long(0), long(0)) and ctypes.get_errno()

    if ask(option, query) == errno.EINVAL:
        return False
    if ask(no_new_privs, 1):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    # A handler of core dumps behind a pipe is started for every limit but 1, and gets what
    # coredump_filter names.
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    with open("/proc/self/coredump_filter", "w") as core:
        core.write("0")
    for _ in range(1000):
        if (answer := ask(option, drop, keep)) != errno.EAGAIN:
            break
        time.sleep(0.001)  # somebody is looking at this process
    if answer != errno.EALREADY:
        raise OSError(answer, os.strerror(answer))
    return True


dropped = drop_memory_capability()
try:
    open("/proc/self/mem", "r+b").close()
    memory = "open"
except PermissionError:
    memory = "closed"
print("python:", dropped, "memory", memory)
