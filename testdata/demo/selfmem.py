"""The same in Python: an immutable bytes object changes its contents.

Exit status: 0 changed, 1 refused and unchanged.
"""
import sys

text = bytes([65] * 8)
offset = sys.getsizeof(text) - len(text) - 1  # where an object keeps its bytes

print(f"  Python: the constant holds {text!r}")
try:
    with open("/proc/self/mem", "r+b", buffering=0) as mem:
        mem.seek(id(text) + offset)
        mem.write(b"FORGED!!")
    print("          wrote b'FORGED!!' into /proc/self/mem")
except OSError as e:
    print(f"          opening /proc/self/mem: {e.strerror}")
print(f"          the constant holds {text!r}")
sys.exit(text == b"AAAAAAAA")
