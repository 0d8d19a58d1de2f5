"""What a terminal shows while a test runs, below pytest's own output."""
