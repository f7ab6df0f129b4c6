"""The calls on memory, made through ctypes, on a child of os.fork()."""

import ctypes
import errno
import os
import signal

libc = ctypes.CDLL(None, use_errno=True)
OLD, NEW = 0x1122334455667788, 0x0BAD0BAD0BAD0BAD
canary = ctypes.c_uint64(OLD)
PTRACE_POKEDATA, PTRACE_ATTACH, PTRACE_DETACH = 5, 16, 17


class IOVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


def say(name, changed, access, err):
    if changed:
        print(f"ATTEMPT {name}: CHANGED")
    elif access:
        print(f"ATTEMPT {name}: OPENED")
    else:
        print(f"ATTEMPT {name}: refused {errno.errorcode.get(err, err)}")


def on_child(name, attack):
    """The child waits for its pipe to close and says by its status what it holds."""
    go_read, go_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go_write)
        os.read(go_read, 1)
        os._exit(1 if canary.value != OLD else 0)
    os.close(go_read)
    access = attack(pid)
    err = ctypes.get_errno()
    os.close(go_write)
    _, status = os.waitpid(pid, 0)
    say(name, os.waitstatus_to_exitcode(status) == 1, access, err)


def vm_write(pid):
    new = ctypes.c_uint64(NEW)
    near = IOVec(ctypes.addressof(new), 8)
    far = IOVec(ctypes.addressof(canary), 8)
    libc.process_vm_writev.restype = ctypes.c_ssize_t
    return libc.process_vm_writev(pid, ctypes.byref(near), 1, ctypes.byref(far), 1, 0) > 0


def attach(pid):
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    if libc.ptrace(PTRACE_ATTACH, pid, None, None) != 0:
        return False
    os.waitpid(pid, 0)
    libc.ptrace(PTRACE_POKEDATA, pid, ctypes.addressof(canary), NEW)
    libc.ptrace(PTRACE_DETACH, pid, None, None)
    return True


def child_mem(pid):
    try:
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as mem:
            mem.seek(ctypes.addressof(canary))
            mem.write(NEW.to_bytes(8, "little"))
        return True
    except OSError as err:
        ctypes.set_errno(err.errno)
        return False


signal.alarm(20)
on_child("python-child-mem", child_mem)
on_child("python-process-vm-writev", vm_write)
on_child("python-ptrace-attach", attach)
vm = vm_write(os.getpid())
vm_errno = ctypes.get_errno()
say("python-self-writev", canary.value != OLD, vm, vm_errno)
