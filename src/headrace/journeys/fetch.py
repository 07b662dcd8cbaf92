"""Where each public data set is to be had, and whether the files a person put in place are whole.

Nothing is downloaded: the owners ask for a licence to be read, a form or a login. `fetch` says what to get, from
where, and checks the files that are there: each one's SHA-256 is computed, and compared where a value to compare with
is known. None is, for the sets named here: their owners publish no SHA-256. The report says so rather than calling a
file right. A SHA256SUMS file in the folder (lines of "DIGEST NAME") is taken as that value.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from headrace.errors import UserError, unknown


@dataclass(frozen=True, slots=True)
class DataSet:
    """A public data set: its official address, its licence, the files a reader wants."""

    address: str
    licence: str
    files: tuple[str, ...]  # patterns; any file type that the readers take
    note: str = ""
    sha256: dict[str, str] = field(default_factory=dict)  # file name -> digest, where the owner publishes one


_KUAIRAND = "https://kuairand.com (files: https://zenodo.org/records/10439422)"
_MTORL = "https://github.com/Applied-Machine-Learning-Lab/MTORL"


def _kuairand(size: str) -> DataSet:
    names = (f"log_standard_*_{size}", f"log_random_*_{size}", f"user_features_{size}", f"video_features_basic_{size}")
    unpack = (
        f"unpack KuaiRand-{'Pure' if size == 'pure' else size.upper()}.tar.gz; the folder or its data/ is the source"
    )
    return DataSet(_KUAIRAND, "CC BY-SA 4.0", names, unpack)


DATA_SETS: dict[str, DataSet] = {
    "kuairand-pure": _kuairand("pure"),
    "kuairand-1k": _kuairand("1k"),
    "kuairand-random-sample": DataSet(_MTORL, "CC BY-SA 4.0", ("kuairand_sequence",),
        "a processed slice of KuaiRand-Pure"),
    "criteo-attribution-sample": DataSet(_MTORL, "CC BY-NC-SA 4.0", ("criteo_sequence",),
        "a processed slice of the Criteo set"),
    "criteo-attribution": DataSet(
        "https://ailab.criteo.com/criteo-attribution-modeling-bidding-dataset/", "CC BY-NC-SA 4.0",
        ("criteo_attribution_dataset",), "accept the terms; keep the tsv.gz packed",
    ),
    "retailrocket": DataSet(
        "https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset", "CC BY-NC-SA 4.0",
        ("events", "item_properties_part*"), "log in; the zip may stay packed",
    ),
    "open-bandit": DataSet(
        "https://research.zozo.com/data.html", "CC BY 4.0",
        ("*/*/*",), "unpack; a source is one policy/campaign folder",
    ),
}  # fmt: skip


def fetch(name: str, out: str | Path) -> str:
    """What to get for the data set `name`, from where, and what of it stands in the folder `out` already.

    Raises UserError for an unknown name, and for a file whose SHA-256 is not the one it should have.
    """
    if name not in DATA_SETS:
        raise unknown("data set", name, DATA_SETS)
    wanted, folder = DATA_SETS[name], Path(out)
    found = _found(folder, wanted)
    lines = [f"{name}: {wanted.address}", f"licence: {wanted.licence}"]
    if not found:
        lines.append(f"headrace can't download it for you. Get {', '.join(wanted.files)} and put them into {folder}")
    expected = wanted.sha256 | _sums(folder)
    for path in found:
        digest = sha256(path)
        known = expected.get(path.name)
        if known is not None and known != digest:
            raise UserError(f"{path}: SHA-256 is {digest}, expected {known}; the file is not whole, get it again")
        verdict = "as expected" if known else "nothing known to compare it with"
        lines.append(f"{path.name}: SHA-256 {digest} ({verdict})")
    if found:
        lines.append(f"next: headrace data prepare {folder} --schema {name} --out JOURNEYS")
    if wanted.note:
        lines.append(f"note: {wanted.note}")
    return "\n".join(lines)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _found(folder: Path, wanted: DataSet) -> list[Path]:
    places = [place for place in (folder, folder / "data") if place.is_dir()]
    hits = {path for place in places for pattern in wanted.files for path in place.glob(f"{pattern}.*")}
    return sorted(path for path in hits if path.is_file())


def _sums(folder: Path) -> dict[str, str]:
    path = folder / "SHA256SUMS"
    if not path.is_file():
        return {}
    pairs = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise UserError(f"{path}: expected lines of  DIGEST  NAME; correct the file or remove it")
    return {name.lstrip("*"): digest.lower() for digest, name in pairs}
