"""The fitted floors: logistic regression and boosted trees over the table of floor_features.py.

Each `fit_*` takes training and validation tables and labels and returns a function from a table to predictions: (n, M)
probabilities of classes, (n,) probabilities of a binary gain, (n,) means of a continuous one. Validation chooses the
strength of the penalty and when to stop.

n rows, F inputs, M classes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge

from headrace.errors import UserError
from headrace.evaluate.floor_features import Column, Table
from headrace.evaluate.metrics import CLIP, Kind
from headrace.journeys.seams import Floats

ONE_HOT = 32  # most frequent values of a category that get an input of their own
CATEGORIES = 254  # that a tree tells apart
NATIVE = 32  # categories up to which a tree splits them as sets, not as ranks
SPREAD = 5.0  # standard deviations beyond which a number is cut
PENALTIES = (1.0, 0.03)  # inverse strengths
ROUNDS, PATIENCE = 400, 15
LIGHTGBM = {"learning_rate": 0.04, "num_leaves": 31, "min_data_in_leaf": 30, "feature_fraction": 0.5}
LIGHTGBM_SPACE: dict[str, tuple[float, ...]] = {  # that its tuner searches
    "learning_rate": (0.01, 0.02, 0.04, 0.08),
    "num_leaves": (7, 15, 31, 63, 127),
    "min_data_in_leaf": (10, 30, 100, 300),
    "feature_fraction": (0.3, 0.5, 0.8, 1.0),
    "bagging_fraction": (0.6, 0.8, 1.0),
    "lambda_l2": (0.0, 1.0, 10.0, 100.0),
    "max_cat_to_onehot": (4, 32),
}
LIGHTGBM_ROUNDS, LIGHTGBM_PATIENCE = 40.0, 2.0  # at a learning rate of 1: it takes as many more as it learns slower
Labels = NDArray[Any]
Predict = Callable[[Table], Floats]


def fit_logistic(
    train: Table, labels: Labels, validation: Table, validation_labels: Labels, kind: Kind, classes: int, seed: int
) -> Predict:
    """Logistic regression (ridge regression where the gain is continuous) on one-hot and standardised inputs."""
    encode = linear_inputs(train)
    x, x_validation = encode(train), encode(validation)
    best: tuple[float, Callable[[NDArray[np.float32]], Floats]] | None = None
    for penalty in PENALTIES:
        if kind == "continuous":
            linear = Ridge(alpha=1 / penalty).fit(x, labels.astype(np.float32))
            predict = _mean_of(linear)
        elif len(np.unique(labels)) < 2:
            predict = _only(labels, classes)
        else:
            predict = _probabilities_of(
                LogisticRegression(C=penalty, max_iter=500, tol=1e-4).fit(x, labels), kind, classes
            )
        loss = _loss(predict(x_validation), validation_labels, kind)
        if best is None or loss < best[0]:
            best = loss, predict
    assert best is not None
    chosen = best[1]
    return lambda table: chosen(encode(table))


def fit_trees(
    train: Table, labels: Labels, validation: Table, validation_labels: Labels, kind: Kind, classes: int, seed: int
) -> Predict:
    """Boosted trees (scikit-learn's histogram boosting), stopped on validation."""
    encode, native = _ranks(train)
    options: dict[str, Any] = {
        "learning_rate": 0.08,
        "max_iter": ROUNDS,
        "max_leaf_nodes": 15,
        "min_samples_leaf": 30,
        "l2_regularization": 1.0,
        "max_features": 0.5,
        "early_stopping": True,
        "n_iter_no_change": PATIENCE,
        "categorical_features": native,
        "random_state": seed,
    }
    if kind == "continuous":
        regressor = HistGradientBoostingRegressor(**options)
        regressor.fit(encode(train), labels, X_val=encode(validation), y_val=validation_labels)
        return lambda table: _mean_of(regressor)(encode(table))
    if len(np.unique(labels)) < 2:
        only = _only(labels, classes)
        return lambda table: only(encode(table))
    seen = np.isin(validation_labels, labels)  # a class that training lacks has no loss to stop on
    if seen.any():
        model = HistGradientBoostingClassifier(**options)
        model.fit(encode(train), labels, X_val=encode(validation)[seen], y_val=validation_labels[seen])
    else:
        model = HistGradientBoostingClassifier(**options | {"early_stopping": False, "max_iter": PATIENCE})
        model.fit(encode(train), labels)
    predict = _probabilities_of(model, kind, classes)
    return lambda table: predict(encode(table))


def fit_lightgbm(
    train: Table,
    labels: Labels,
    validation: Table,
    validation_labels: Labels,
    kind: Kind,
    classes: int,
    seed: int,
    parameters: Mapping[str, float] | None = None,
) -> Predict:
    """Boosted trees of LightGBM, where it is installed; stopped on validation. `parameters` go over LIGHTGBM."""
    try:
        import lightgbm
    except ModuleNotFoundError:
        raise UserError(
            "floor lightgbm: the package lightgbm is not installed; pip install lightgbm, or use trees"
        ) from None
    encode, native = _ranks(train)
    if kind != "continuous" and len(np.unique(labels)) < 2:
        only = _only(labels, classes)
        return lambda table: only(encode(table))
    chosen = LIGHTGBM | dict(parameters or {})
    options: dict[str, Any] = {
        "objective": {"binary": "binary", "continuous": "regression", "classes": "multiclass"}[kind],
        **chosen,
        "bagging_freq": int(chosen.get("bagging_fraction", 1.0) < 1),
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }
    if kind == "classes":
        options["num_class"] = classes
    data = lightgbm.Dataset(encode(train), labels, categorical_feature=np.flatnonzero(native).tolist())
    held = lightgbm.Dataset(encode(validation), validation_labels, reference=data)
    stop = lightgbm.early_stopping(round(LIGHTGBM_PATIENCE / chosen["learning_rate"]), verbose=False)
    rounds = round(LIGHTGBM_ROUNDS / chosen["learning_rate"])
    model = lightgbm.train(options, data, rounds, valid_sets=[held], callbacks=[stop])
    return lambda table: np.asarray(model.predict(encode(table)), dtype=np.float64)


def _mean_of(model: Any) -> Callable[[NDArray[np.float32]], Floats]:
    return lambda x: np.asarray(model.predict(x), dtype=np.float64)


def _probabilities_of(model: Any, kind: Kind, classes: int) -> Callable[[NDArray[np.float32]], Floats]:
    """The model's probabilities; classes that training did not hold have none."""

    def predict(x: NDArray[np.float32]) -> Floats:
        p = model.predict_proba(x).astype(np.float64)
        if kind == "binary":
            return np.asarray(p[:, 1])
        out = np.zeros((len(p), classes))
        out[:, model.classes_.astype(np.int64)] = p / p.sum(axis=1, keepdims=True)
        return out

    return predict


def _only(labels: Labels, classes: int) -> Callable[[NDArray[np.float32]], Floats]:
    """The prediction where training holds one class alone."""
    label = int(labels[0])
    if classes:
        return lambda x: np.repeat(np.eye(classes)[None, label], len(x), axis=0)
    return lambda x: np.full(len(x), float(label))


def _loss(p: Floats, labels: Labels, kind: Kind) -> float:
    if kind == "continuous":
        return float(np.mean((p - labels) ** 2))
    chosen = np.where(labels == 1, p, 1 - p) if kind == "binary" else p[np.arange(len(p)), labels.astype(np.int64)]
    return float(-np.log(np.clip(chosen, CLIP, 1)).mean())


def _frequent(column: Column, most: int) -> Floats:
    """The most frequent values of a category, in the order of their number."""
    values, counts = np.unique(column.values[~np.isnan(column.values)], return_counts=True)
    found: Floats = values[np.argsort(-counts, kind="stable")[:most]]
    return found


def _number(column: Column) -> Floats:
    return np.log1p(np.maximum(column.values, 0)) if column.kind == "count" else column.values


def linear_inputs(train: Table) -> Callable[[Table], NDArray[np.float32]]:
    """Fit the encoding for linear models: one-hot categories, standardised numbers, a flag where some are missing."""
    frequent = {name: _frequent(c, ONE_HOT) for name, c in train.items() if c.kind == "category"}
    scale: dict[str, tuple[float, float, bool]] = {}
    for name, column in train.items():
        values = _number(column)
        missing = np.isnan(values)
        if column.kind != "category" and not missing.all():
            mean, std = float(values[~missing].mean()), float(values[~missing].std())
            if std > 0 or missing.any():
                scale[name] = (mean, std or 1.0, bool(missing.any()))

    def encode(table: Table) -> NDArray[np.float32]:
        parts: list[NDArray[Any]] = []
        for name, values in frequent.items():
            parts.append(table[name].values[:, None] == values)
        for name, (mean, std, flag) in scale.items():
            number = _number(table[name])
            parts.append(np.clip(np.nan_to_num((number - mean) / std), -SPREAD, SPREAD)[:, None])
            if flag:
                parts.append(np.isnan(number)[:, None])
        n = len(next(iter(table.values())).values)
        out = np.empty((n, sum(p.shape[1] for p in parts)), dtype=np.float32)
        return np.concatenate(parts, axis=1, out=out, casting="unsafe") if parts else np.zeros((n, 1), np.float32)

    return encode


def _ranks(train: Table) -> tuple[Callable[[Table], NDArray[np.float32]], NDArray[np.bool_]]:
    """Fit the encoding for trees: numbers as they are, categories as ranks by frequency; which are split as sets."""
    frequent = {name: _frequent(c, CATEGORIES) for name, c in train.items() if c.kind == "category"}
    names = [name for name, c in train.items() if not np.isnan(c.values).all()] or list(train)[:1]
    native = np.array([name in frequent and len(frequent[name]) <= NATIVE for name in names])

    def encode(table: Table) -> NDArray[np.float32]:
        out = np.empty((len(next(iter(table.values())).values), len(names)), dtype=np.float32)
        for f, name in enumerate(names):
            values = table[name].values
            if name in frequent:
                order = np.argsort(frequent[name])  # of each value, in sorted order: its rank by frequency
                known = frequent[name][order]
                at = np.searchsorted(known, values)
                hit = np.isin(values, known)
                out[:, f] = len(known)  # a value that training did not hold
                out[hit, f] = order[at[hit]]
                out[np.isnan(values), f] = np.nan
            else:
                out[:, f] = values
        return np.where(empty, np.float32(0), out)

    empty = all(np.isnan(c.values).all() for c in train.values())  # nothing is known of any step: one constant column
    return encode, native
