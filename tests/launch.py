"""Processes that torchrun starts, as users start them."""

import os
import subprocess
import sys


def torchrun(arguments: list[str], *, processes: int) -> "subprocess.CompletedProcess[str]":
    """Start a module or file with its arguments in so many processes; return what became of it."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), *arguments]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=300)
