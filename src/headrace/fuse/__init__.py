"""Fusion of many predictions into one ranking: BatchRL-MTF and its baselines."""
