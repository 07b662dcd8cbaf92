"""Where benchmarks find d3rlpy: in a throwaway folder, without its dependencies, since it pins an older gymnasium."""

import subprocess
import sys
from pathlib import Path

PACKAGES: tuple[str, ...] = ("d3rlpy==2.8.1", "gym==0.26.2", "gym-notices", "h5py", "structlog", "colorama")
PACKAGES += ("dataclasses-json==0.6.7", "marshmallow==3.26.1", "typing-inspect", "mypy-extensions")


def install(folder: Path) -> Path:
    """Put d3rlpy into the folder."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return folder
