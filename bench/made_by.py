"""The line under a measured table: the command, the commit and the machine."""

from headrace.learn.provenance import environment


def made_by(command: str) -> str:
    """
    >>> made_by("python bench/x.py").startswith("`python bench/x.py`, commit ")
    True
    """
    made = environment()
    machine = made["machine"]
    commit = (made["commit"] or "unknown")[:12]
    changed = " with changes" if (made["commit"] or "").endswith("+changes") else ""
    processor = " ".join(machine["processor"].split()[:2])
    threads = made["threads"]
    return (
        f"`{command}`, commit {commit}{changed}, {machine['cores']} cores ({processor}), {threads} thread"
        f"{'s' if threads > 1 else ''}, torch {machine['torch']}."
    )
