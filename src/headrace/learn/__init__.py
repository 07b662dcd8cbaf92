"""Fitting: one loop for all learners, runs, checkpoints, the optimiser."""
