"""Kernels that begin with the libraries loaded: forks of one process that has imported them.

A kernel takes five seconds to import torch and sentence-transformers; a course has fifteen. Only on
Linux, and only where there is no GPU: what CUDA has begun must not be forked.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

from jupyter_client.provisioning import LocalProvisioner

LIBRARIES = ["notebooks.tools.loaded"]
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA's, AMD's, either in Windows' Linux


def can_fork() -> bool:
    """Whether kernels may be forks here."""
    return sys.platform == "linux" and not any(Path(gpu).exists() for gpu in GPUS)


class Forked:
    """A kernel that was forked, with what jupyter_client asks of a ``Popen``."""

    stdin = stdout = stderr = None

    def __init__(self, command: list[str], env: dict[str, str], cwd: str) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LIBRARIES)  # by the first kernel; the rest find it done
        arguments = command[command.index("ipykernel_launcher") + 1 :]
        self._process = context.Process(target=_kernel, args=(arguments, env, cwd))
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid or 0, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _kernel(arguments: list[str], env: dict[str, str], cwd: str) -> None:
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()  # Ctrl-C in the terminal is not for kernels
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    told = {"parent_handle": os.getppid(), "log_level": 50}  # an interrupt is no news to a terminal
    settings = [f"--IPKernelApp.{name}={value}" for name, value in told.items()]
    IPKernelApp.launch_instance([*arguments, *settings])


class Forking(LocalProvisioner):
    """Starts kernels as forks."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        kept = LocalProvisioner._scrub_kwargs(kwargs)
        self.cwd = str(kept.get("cwd") or Path.cwd())
        forked: Any = Forked(cmd, dict(kept.get("env") or os.environ), self.cwd)
        self.process, self.pid = forked, forked.pid  # no group yet: signals go to it alone
        return self.connection_info
