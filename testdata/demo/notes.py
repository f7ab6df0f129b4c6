"""An honest program: keeps a line of text at a place in its temporary file.

    notes.py FILE

Prints what "role" is, which nothing here changes, and where it stands in memory. Then it
reads a line "PLACE TEXT", writes TEXT at PLACE of FILE, and prints "role" again.
"""
import sys

role = bytes(bytearray(b"guest"))
address = id(role) + bytes.__basicsize__ - 1  # where an object keeps its bytes

print(f"role {role.decode()} {address}", flush=True)
place, text = sys.stdin.readline().split()
try:
    with open(sys.argv[1], "r+b", buffering=0) as file:
        file.seek(int(place))
        file.write(text.encode())
    print("saved")
except OSError as e:
    print(f"not saved: {e.strerror}")
print("role", role.decode())
