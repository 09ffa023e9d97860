"""Runs a script as a process of its own, quickly; imported by that process, so it must not import common.

A script spends two seconds on importing torch. A server imports it once and forks a process for each run.
"""

import ctypes
import io
import multiprocessing
import os
import resource
import runpy
import signal
import socket
import sys
import time
import traceback
from typing import NamedTuple

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["torch", "matplotlib.figure", "tqdm"])


class Result(NamedTuple):
    """How a process ended."""

    status: int  # exit status, negative for a signal
    out: str
    err: str


class Running:
    """A script that runs in a process of its own, its output going to files in `folder`."""

    def __init__(self, folder, script, *arguments, before=None):
        self.streams = [folder / "stdout.txt", folder / "stderr.txt"]
        for stream in self.streams:
            stream.write_text("")
        self.process = SERVER.Process(target=_main, args=(script, [*map(str, arguments)], self.streams, before))
        self.process.start()

    def wait(self, timeout=60):
        """Its Result."""
        self.process.join(timeout)
        if self.process.is_alive():
            self.process.kill()
            raise AssertionError(f"still running after {timeout} s: {self.streams[1].read_text()}")
        return Result(self.process.exitcode, *(stream.read_text() for stream in self.streams))

    def wait_until(self, text, timeout=60):
        """Wait until its standard output holds `text`."""
        deadline = time.monotonic() + timeout
        while text not in self.streams[0].read_text():
            assert self.process.is_alive() and time.monotonic() < deadline, self.streams[1].read_text()
            time.sleep(0.01)


def _main(script, arguments, streams, before):
    for number, stream in enumerate(streams, 1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_APPEND), number)
    if before:
        before()
    sys.stdin = open(os.devnull)
    sys.stdout, sys.stderr = (io.TextIOWrapper(os.fdopen(n, "wb"), line_buffering=n == 2) for n in (1, 2))
    sys.argv = [str(script), *arguments]
    sys.path[:0] = [str(script.parent)]
    status = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


# What a test can do to the process before the script starts


def obey_permissions():
    """For root a read-only folder is writable: give up that privilege, CAP_DAC_OVERRIDE, and no other."""
    if os.getuid() == 0:
        libc = ctypes.CDLL(None)
        header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert libc.capget(header, sets) == 0
        for number in range(3):  # effective, permitted, inheritable
            sets[number] &= ~(1 << 1)
        assert libc.capset(header, sets) == 0


def lose_the_network():
    """Every name leads to a closed port of this machine."""
    real = socket.getaddrinfo
    socket.getaddrinfo = lambda host, port, *more, **other: real("127.0.0.1", 9, *more, **other)


def die_while_saving():
    """kill -9 when the new file, if there is anything in it, is written and not yet in its place."""
    os.fsync = lambda file: os.fstat(file).st_size and os.kill(os.getpid(), signal.SIGKILL)


def write_small_files_only():
    """Any write beyond 50 kB fails."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))


def close_the_reader():
    """Standard output is a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)
