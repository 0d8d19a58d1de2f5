"""``serve-chaos compare`` and ``bisect``: runs of the same experiments on two clusters that differ in one thing."""
