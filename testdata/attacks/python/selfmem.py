"""Changes a constant of its own process through /proc/self/mem.

Standard library only. The address of an object is its id(); the text of a
bytes object stands behind its header.
"""

import errno
import sys

OLD = bytes(bytearray(b"canary-old-value"))
OFFSET = bytes.__basicsize__ - 1


def refused(name, err):
    print(f"ATTEMPT {name}: refused {errno.errorcode.get(err.errno, err.errno)}")
    print(f"{name}: {err.strerror}", file=sys.stderr)


def read():
    try:
        with open("/proc/self/mem", "rb", buffering=0) as mem:
            mem.seek(id(OLD) + OFFSET)
            got = mem.read(len(OLD))
    except OSError as err:
        return refused("python-read", err)
    print("ATTEMPT python-read:", "READ" if got == OLD else "OPENED")


def write():
    try:
        with open("/proc/self/mem", "r+b", buffering=0) as mem:
            mem.seek(id(OLD) + OFFSET)
            mem.write(b"CHANGED-CHANGED!")
    except OSError as err:
        return refused("python-write", err)
    print("ATTEMPT python-write:", "CHANGED" if OLD == b"CHANGED-CHANGED!" else "OPENED")


read()
write()
print("variable", OLD.decode())
