"""The name of a process, by which another process of the same machine can see that it has ended."""

import os
import secrets
import socket
from functools import cache
from pathlib import Path

from tornado_members.lease_cache.placement import digest

_BOOT, _NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


def process_name() -> str:
    """Return a name that no other process has: host, process id, and a word.

    The word begins with a digest of the place in which the process id is valid, and is random.
    """
    return f"{socket.gethostname()}:{os.getpid()}:{_place()}{secrets.token_hex(4)}"


def has_ended(name: str) -> bool:
    """True if the process has certainly ended; False if it runs, or belongs to another place."""
    _, pid, word = ("", "", *name.split(":"))[-3:]
    if not _place() or not word.startswith(_place()) or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


@cache
def _place() -> str:
    """Return a digest of this boot of this machine and of the namespace of process ids.

    Empty on a system that does not have them.
    """
    try:
        words = f"{_BOOT.read_text()} {_NAMESPACE.stat().st_ino}"
    except OSError:
        return ""
    return digest(words.encode(), 4).hex()
