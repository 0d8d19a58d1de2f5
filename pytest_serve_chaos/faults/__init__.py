"""The catalogue of faults: one small class for each target, and the injection that applies one of them once."""
