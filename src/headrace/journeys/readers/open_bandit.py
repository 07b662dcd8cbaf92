"""The Open Bandit Dataset: logged bandit feedback of a fashion shop, one policy and one campaign at a time.

    open_bandit_dataset/{bts,random}/{all,men,women}/{campaign}.csv and item_context.csv, as published
    {policy}_{campaign}_{campaign}.parquet and {policy}_{campaign}_item_context.parquet, as in the small version

The action is the item, so the item is the channel; an item stands in one of three positions, known before. The log has
no user: each row is a journey of its own. The user's hashed features and affinities to the items are known before; the
item's features come with the item, hence `after`. How many affinities there are depends on the campaign, so they are
added to the schema as the file has them.
"""

from dataclasses import replace
from pathlib import Path

import polars as pl

from headrace.errors import UserError
from headrace.journeys.readers.files import Files, Source, kind, scan, scan_log
from headrace.journeys.schema import Feature, Gain, LogSchema

_ITEM = {"item_feature_0": "numeric", "item_feature_1": "categorical", "item_feature_2": "categorical",
         "item_feature_3": "categorical"}  # fmt: skip
_AFFINITY = "user-item_affinity_"

SCHEMA = LogSchema(
    name="open-bandit",
    time="timestamp",
    time_unit="datetime",
    channel="item_id",
    features=(
        Feature("position", "categorical", "before"),
        *(Feature(f"user_feature_{i}", "categorical", "before") for i in range(4)),
    ),
    gains=(Gain("click"),),
    propensity="propensity_score",
)


def read(source: Path, files: Files) -> Source:
    """One log: a file, or the policy/campaign folder that holds it."""
    log_path = _log_in(source) if source.is_dir() else source
    log = scan_log([log_path], files, {"": "idx"})
    raw = tuple(log.collect_schema().names()[1:])
    affinities = tuple(Feature(name, "numeric", "before") for name in raw if name.startswith(_AFFINITY))
    schema = replace(SCHEMA, features=SCHEMA.features + affinities)
    context = _context_of(log_path)
    if context is None or "item_id" not in raw:
        return Source(log, raw, (log_path,), schema, ("item_context",))
    items = scan(context, files)
    there = [name for name in _ITEM if name in items.collect_schema().names()]
    items = items.select(pl.col("item_id").cast(pl.Int64), *there)
    log = log.with_columns(pl.col("item_id").cast(pl.Int64, strict=False))
    log = log.join(items, on="item_id", how="left", maintain_order="left")
    of_item = tuple(Feature(n, "numeric" if _ITEM[n] == "numeric" else "categorical", "after") for n in there)
    return Source(log, raw, (log_path,), replace(schema, features=schema.features + of_item))


def _log_in(folder: Path) -> Path:
    logs = sorted(p for p in folder.rglob("*") if p.is_file() and kind(p) and "item_context" not in p.name)
    if len(logs) != 1:
        names = ", ".join(str(p.relative_to(folder)) for p in logs[:6]) or "none"
        raise UserError(f"{folder}: {len(logs)} logs here ({names}); give one of them, a policy and a campaign")
    return logs[0]


def _context_of(log: Path) -> Path | None:
    name = log.name.split(".")[0]
    stems = ["item_context", f"{name.rsplit('_', 1)[0]}_item_context"]
    return next((p for stem in stems for p in sorted(log.parent.glob(f"{stem}.*")) if kind(p)), None)
