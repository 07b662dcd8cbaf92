"""What the MTORL paper prints (Liu et al., KDD 2025, Tables 2 and 3), by the sample of the same source.

Other data than the samples, cut by the paper's own sampling: for orientation, not for comparison.
"""

PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "kuairand-random-sample": {
        "action/f1_macro": {
            "wide-deep": 0.5210,
            "din": 0.5649,
            "star": 0.5731,
            "mirec": 0.5723,
            "r-bcq": 0.6148,
            "ag": 0.6060,
            "bc": 0.5862,
            "discrete-cql": 0.5970,
            "discrete-iql": 0.6203,
            "dt": 0.6296,
            "odt": 0.6319,
            "mtorl": 0.6793,
        },
        "imitation_reward": {
            "din": 0.1744,
            "mirec": 0.1955,
            "r-bcq": 0.1996,
            "ag": 0.2086,
            "discrete-iql": 0.1835,
            "dt": 0.2306,
            "mtorl": 0.2591,
        },
    },
    "criteo-attribution-sample": {
        "action/f1_macro": {
            "wide-deep": 0.2712,
            "din": 0.2974,
            "star": 0.2956,
            "mirec": 0.3034,
            "r-bcq": 0.3440,
            "ag": 0.2982,
            "bc": 0.2850,
            "discrete-cql": 0.3395,
            "discrete-iql": 0.3834,
            "dt": 0.4303,
            "odt": 0.4168,
            "mtorl": 0.5002,
        },
        "imitation_reward": {
            "din": 0.2865,
            "mirec": 0.2917,
            "r-bcq": 0.2996,
            "ag": 0.2968,
            "discrete-iql": 0.2789,
            "dt": 0.3083,
            "mtorl": 0.3203,
        },
    },
}
