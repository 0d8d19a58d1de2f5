"""What keeps a run from harming others and from leaving a mess: a guard, and a journal of what to undo."""
