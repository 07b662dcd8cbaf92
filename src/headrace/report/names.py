"""What the names in results.json mean: which way a metric is better, which methods are floors, and plain words."""

from headrace.evaluate.floor_names import FLOORS

UP = (
    "auc",
    "f1",
    "accuracy",
    "precision",
    "recall",
    "ndcg",
    "r2",
    "value",
    "true_value",
    "incremental_value",
    "imitation_reward",
    "dwell_time",
    "positive_interaction_rate",
    "kendall_tau",
    "ctr_top_share",
    "gain_of_chosen",
)
DOWN = ("log_loss", "session_log_loss", "ece", "mse", "rmse", "mae", "brier", "regret")

METHODS = {
    name: name.upper()
    for name in (
        "ag",
        "mtorl",
        "rmtl",
        "ple",
        "mmoe",
        "esmm",
        "aitm",
        "bc",
        "cql",
        "iql",
        "dt",
        "odt",
        "din",
        "star",
        "mirec",
    )
} | {
    "batchrl-mtf": "BatchRL-MTF",
    "discrete-cql": "CQL, discrete",
    "discrete-iql": "IQL, discrete",
    "gru4rec": "GRU4Rec",
    "sasrec": "SASRec",
    "wide-deep": "Wide & Deep",
    "r-bcq": "R-BCQ",
    "mmoe": "MMoE",
}

BACKBONES = {"ple", "mmoe", "esmm", "aitm"}  # the parts of a name like rmtl-ple or ple-constant

METRICS = {
    "log_loss": "log loss",
    "auc": "AUC",
    "f1_macro": "macro F1",
    "f1_macro_per_step": "macro F1 per step",
    "f1_micro": "micro F1",
    "precision_macro": "macro precision",
    "recall_macro": "macro recall",
    "ctr_top_share": "rate among the best-ranked",
    "ece": "calibration error",
    "mse": "squared error",
    "rmse": "root squared error",
    "mae": "absolute error",
    "imitation_reward": "imitation score",
    "gain_of_chosen": "gain of the chosen",
    "ess": "effective sample size",
    "value_ips": "value (IPS)",
    "value_snips": "value (SNIPS)",
    "value_snips_of_chosen": "value of the chosen (SNIPS)",
    "value_dm": "value (DM)",
    "value_dr": "value (DR)",
    "value_sndr": "value (SNDR)",
    "value_fqe": "value (FQE)",
    "value_cfqe": "value (conservative FQE)",
}

TARGETS = {
    "ctr": ("Click-through", "Whether an item that is shown is clicked."),
    "ctcvr": ("Click and conversion", "Whether an item that is shown is clicked and then does what it is for."),
    "action": (
        "Next channel",
        "Which channel the log shows next. This is how well the log is imitated, not what it earns.",
    ),
    "reward": ("Reward, foreseen", "What a step brings, said before its channel is chosen."),
    "reward_by_channel": ("Reward, given the channel", "What a step brings, said with its channel known."),
    "reward_in_context": (
        "Reward, in context",
        "What a step brings, said with its channel and context known. A diagnostic: no decision can wait for it.",
    ),
    "": ("The policy as a whole", "Values estimate what following it would bring; an imitation score does not."),
}

PROTOCOLS = {
    "honest": "users are disjoint and, where the log has a clock, tested on later time than trained on",
    "users": "users are disjoint; the parts overlap in time",
    "temporal": "the same users, the last tenth of each journey tested",
    "time": "one cut of the clock; the same users may stand on both sides",
    "paper": "the published code's own sampling, kept for fidelity",
}

# Better one way, but no yardstick: the prior is calibrated by construction.
NO_YARDSTICK = ("ece",)

# The metric that carries a headline, by target: the first of these that was measured.
HEADLINE = (
    "log_loss",
    "session_log_loss",
    "mse",
    "value_dr",
    "value_snips",
    "value_ips",
    "auc",
    "f1_macro",
    "accuracy",
)


def target(metric: str) -> str:
    """The target in front of a metric's name, "" where there is none.

    >>> target("reward_by_channel/auc"), target("value_dr")
    ('reward_by_channel', '')
    """
    return metric.rpartition("/")[0]


def direction(metric: str) -> int:
    """1 where more is better, -1 where less is, 0 where neither can be said.

    >>> direction("action/log_loss"), direction("reward/auc"), direction("spend")
    (-1, 1, 0)
    """
    name = metric.rpartition("/")[2]
    for way, names in ((-1, DOWN), (1, UP)):
        if any(name == known or name.startswith(known + "_") for known in names):
            return way
    return 0


def is_floor(method: str) -> bool:
    """True for the plain rules and models that every table carries for scale.

    >>> is_floor("repeat_last"), is_floor("constant:short"), is_floor("mtorl")
    (True, True, False)
    """
    return floor_order(method) < len(FLOORS)


def floor_order(method: str) -> int:
    """The floor's place in a table, `len(FLOORS)` for a method that is none."""
    name = method.lower().replace("_", "-").replace(" ", "-")
    if name.startswith("constant:"):
        return FLOORS.index("majority")
    return FLOORS.index(name) if name in FLOORS else len(FLOORS)


def method_words(method: str) -> str:
    """A method's name as a person writes it.

    >>> method_words("rmtl-ple"), method_words("ple-constant"), method_words("d-ple"), method_words("past-rate")
    ('RMTL-PLE', 'PLE-constant', 'D-PLE', 'past-rate')
    """
    name = method.lower().replace("_", "-")
    if name in METHODS:
        return METHODS[name]
    parts = name.split("-")
    if BACKBONES.isdisjoint(parts):
        return method.replace("_", "-")
    return "-".join(METHODS.get(part, part.upper() if part == "d" else part) for part in parts)


def metric_words(metric: str) -> str:
    """A metric's name in plain words, without its target.

    >>> metric_words("action/f1_macro"), metric_words("spend_share")
    ('macro F1', 'spend share')
    """
    name = metric.rpartition("/")[2]
    return METRICS.get(name, name.replace("_", " "))


def target_words(name: str) -> tuple[str, str]:
    """A target's title and one sentence that says what it is."""
    return TARGETS.get(name, (name.replace("_", " ").replace("/", ", "), ""))


def setting_words(setting: dict[str, object]) -> str:
    """What was varied, in one breath.

    >>> setting_words({"lambda": 0.4, "preference": "none"})
    'lambda 0.4, preference none'
    """
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in setting.items())
