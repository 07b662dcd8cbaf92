"""What a prediction is worth: metrics with intervals, the floors beside it, and whether a difference is one."""
