#!/usr/bin/python3
"""Asks a web server for a page from several threads for some seconds, and prints how
many answers there were, how many failures and how many different answers.
Arguments: URL SECONDS."""
import hashlib
import sys
import threading
import time
import urllib.request

url, seconds = sys.argv[1], float(sys.argv[2])
until = time.time() + seconds
lock = threading.Lock()
answers, failures, bodies = 0, [], set()


def ask():
    global answers
    while time.time() < until:
        try:
            with urllib.request.urlopen(url, timeout=5) as r:
                body = hashlib.sha256(r.read()).hexdigest()
            with lock:
                answers += 1
                bodies.add(body)
        except OSError as e:
            with lock:
                failures.append(str(e))


threads = [threading.Thread(target=ask) for _ in range(4)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("answers", "some" if answers > 50 else answers, "failures", failures[:3], "bodies", sorted(bodies))
