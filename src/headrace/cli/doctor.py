"""headrace doctor: what this installation runs on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Doctor:
    """Versions, threads and devices, for a bug report."""

    def execute(self) -> None:
        import importlib.metadata
        import os
        import platform

        import torch
        from rich.table import Table

        from headrace import __version__
        from headrace.cli.console import out
        from headrace.learn.optimise import choose_device, has_bf16

        device = choose_device()
        rows = {
            "headrace": __version__,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "processors": str(os.cpu_count()),
            "torch threads": str(torch.get_num_threads()),
            "device": str(device),
            "fast bf16": "yes" if has_bf16(device) else "no",
        }
        rows |= {name: importlib.metadata.version(name) for name in ("torch", "numpy", "polars", "scikit-learn")}
        table = Table("what", "value")
        for what, value in rows.items():
            table.add_row(what, value)
        out.print(table)
