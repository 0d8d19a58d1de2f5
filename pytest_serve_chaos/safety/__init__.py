"""What keeps a run from harming others and from leaving a mess: a lock on the cluster, and a journal of what to undo."""
