"""Processes of the service that start in milliseconds, as forks of one that has its imports done.

Most of the cost of a start is its imports. `ForkedProcess` is a subprocess.Popen whose process is
such a fork. One process imports everything for the whole run. It forks a server for each process of
the tests that asks for one. That server ends with the process it serves, and kills the processes it
started.
"""

import ctypes
import gc
import importlib
import inspect
import json
import os
import select
import signal
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn

from tests.support import naive_cache, router
from tornado_members import services
from tornado_members.__main__ import main
from tornado_members.lease_cache.terms import NoTerms

NAIVE_CACHE: Final = "TESTS_NAIVE_CACHE"  # in the environment: use plain cache-aside
NAMESPACE: Final = "TESTS_NAMESPACE"  # in the environment: the network namespace to run in
UNFENCED: Final = "TESTS_UNFENCED"  # in the environment: ignore elections of MongoDB
_ROOT: Final = Path(__file__).parent.parent.parent
_MODULES: Final = [f"tornado_members.commands.{name}" for name in ("serve", "seed", "users")]
_LONGEST_REQUEST: Final = 100_000  # bytes
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_PARAMETERS: Final = list(inspect.signature(subprocess.Popen._execute_child).parameters)[1:]  # type: ignore[attr-defined]


class ForkedProcess(subprocess.Popen[Any]):
    """A command of the service, `[COMMAND, ARGUMENT, ...]`, in a process of its own.

    It takes cwd, env, stdin, stdout, stderr, text and start_new_session as subprocess.Popen does.
    """

    _status: socket.socket

    def _execute_child(self, *given: Any) -> None:
        """Have the server fork, instead of fork and exec."""
        options = dict(zip(_PARAMETERS, given, strict=True))
        self._status, theirs = socket.socketpair()
        request = {
            "argv": [str(part) for part in options["args"]],
            "cwd": str(options["cwd"]),
            "env": dict(options["env"]),
            "session": bool(options["start_new_session"]),
        }
        ours = {"p2cread": 0, "c2pwrite": 1, "errwrite": 2}
        files = [number if options[name] == -1 else options[name] for name, number in ours.items()]
        control = _control()
        socket.send_fds(control, [json.dumps(request).encode()], [*files, theirs.fileno()])
        self.pid = int(control.recv(64))
        self._child_created = True
        theirs.close()
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(options[name] for name in pipes))  # type: ignore[attr-defined]

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None:
            pid, status = self._try_wait(os.WNOHANG)
            if pid:
                self._handle_exitstatus(status)  # type: ignore[attr-defined]
        return self.returncode

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """Work as waitpid(2); the server is the parent, and passes the status on."""
        if not select.select([self._status], [], [], 0 if wait_flags & os.WNOHANG else None)[0]:
            return 0, 0
        status = self._status.recv(64)
        self._status.close()
        return self.pid, int(status or signal.SIGKILL)  # without a status, the server has died


@cache
def start() -> socket.socket:
    """Start the process that imports everything; return the socket for requests to it.

    Forks of this process share it.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            cwd=_ROOT,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        ).returncode = 0  # it ends after the last process that shares it, so nothing waits for it
    return ours


def _control() -> socket.socket:
    """Return the socket for requests to the server of this process."""
    return _control_of(os.getpid())


@cache
def _control_of(_pid: int) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        socket.send_fds(start(), [b"serve"], [theirs.fileno()])
    return ours


def fork_servers(requests: socket.socket) -> None:
    """Import everything; fork a server for each request, until all other ends are closed."""
    for name in _MODULES:
        importlib.import_module(name)
    services.prepare_tables()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is for the tests
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing waits for the servers
    while True:
        request, files, _, _ = socket.recv_fds(requests, 16, 1)
        if not request:
            return
        with socket.socket(fileno=files[0]) as control:
            if not os.fork():
                requests.close()
                serve(control)
                os._exit(0)


def serve(control: socket.socket) -> None:
    """Fork a process for each request until the other end of the socket is closed."""
    children: dict[int, int] = {}  # process ids, to the descriptors for their statuses
    wakeup, noticed = socket.socketpair()
    noticed.setblocking(False)
    signal.set_wakeup_fd(noticed.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        readable, _, _ = select.select([control, wakeup], [], [])
        if wakeup in readable:
            wakeup.recv(4096)
            _reap(children)
        if control in readable:
            request, files, _, _ = socket.recv_fds(control, _LONGEST_REQUEST, 4)
            if not request:
                break
            pid = os.fork()
            if not pid:
                _become(json.loads(request), files[:3])
            control.send(str(pid).encode())
            children[pid] = files.pop()
            for file in files:
                os.close(file)
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _reap(children: dict[int, int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with socket.socket(fileno=children.pop(pid)) as waiting:
            waiting.send(str(status).encode())


def _become(request: dict[str, Any], files: list[int]) -> NoReturn:
    """Become the requested process, as if it had been started with exec."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if request["session"]:
        os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # open to the end
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # open to the end
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115  # open to the end
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    if namespace := os.environ.get(NAMESPACE):
        router.enter(namespace)
    sys.argv = [str(_ROOT / "tornado_members" / "__main__.py"), *request["argv"]]
    if NAIVE_CACHE in os.environ:
        naive_cache.install()
    if UNFENCED in os.environ:
        vars(services)["Elections"] = lambda _mongo: NoTerms()
    try:
        code = main(request["argv"])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001  # as the interpreter does at its end
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    fork_servers(socket.socket(fileno=int(sys.argv[1])))
