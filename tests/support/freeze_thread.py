#!/usr/bin/env python3
"""Stops one thread of a program, while the others go on: what a hang looks like.

    freeze_thread.py NAME SECONDS PROGRAM...   runs a program, freezes its thread NAME after SECONDS
    freeze_thread.py NAME --pid PID            freezes a thread of a running program, until killed

A debugger's means: the kernel stops a traced thread for as long as its tracer lives."""
import ctypes, os, signal, subprocess, sys, time

SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 2 + [ctypes.c_void_p] * 2


def ptrace(request, tid):
    if libc.ptrace(request, tid, None, None) == -1:
        sys.exit(f"freeze_thread: {os.strerror(ctypes.get_errno())} (needs root, or to be the program's parent)")


def thread(pid, name):
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/comm") as comm:
            if comm.read().strip() == name:
                return int(tid)
    return None


def freeze(pid, name):
    deadline = time.time() + 30
    while (tid := thread(pid, name)) is None:
        if time.time() > deadline:
            sys.exit(f"freeze_thread: {pid} has no thread {name}")
        time.sleep(0.05)
    ptrace(SEIZE, tid)
    ptrace(INTERRUPT, tid)
    os.waitpid(tid, WALL)
    print(f"frozen {name} of {pid}", flush=True)
    # Until the end of either: killed, the thread is gone only when its tracer has taken note.
    while not os.WIFSIGNALED(os.waitpid(tid, WALL)[1]):
        pass


name, when, rest = sys.argv[1], sys.argv[2], sys.argv[3:]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if when == "--pid":
    freeze(int(rest[0]), name)
else:
    child = subprocess.Popen(rest)
    try:
        time.sleep(float(when))
        freeze(child.pid, name)
    finally:
        child.kill()
