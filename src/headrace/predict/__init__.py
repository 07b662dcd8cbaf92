"""Predicting what people do with an item: RMTL, the multi-task models it works on, and its controls."""
