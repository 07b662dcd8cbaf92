"""Where a result comes from: the version, the commit, the machine and its threads."""

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import headrace


def environment() -> dict[str, Any]:
    """{"version", "commit", "machine", "threads"} of this process, for a manifest."""
    return {
        "version": headrace.__version__,
        "commit": commit(),
        "machine": {
            "platform": platform.platform(),
            "processor": cpu_info("model name") or platform.processor(),
            "cores": os.cpu_count(),
            "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "threads": torch.get_num_threads(),
    }


def commit() -> str | None:
    """The git commit of this code's checkout ("+changes" if files differ from it), or the one pip installed."""
    folder = Path(__file__).resolve().parents[1]
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is not None:
        changes = "+changes" if _git(folder, "status", "--porcelain", "--", ".") else ""
        head = _git(folder, "rev-parse", "HEAD")
        return head + changes if head else None
    try:
        origin = importlib.metadata.distribution("headrace").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    found: str | None = json.loads(origin or "{}").get("vcs_info", {}).get("commit_id")
    return found


def cpu_info(field: str) -> str:
    """A field of the first processor in /proc/cpuinfo, "" where there is none."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == field), "")


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints, None where it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
