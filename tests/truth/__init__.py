"""What is measured, against the truth: real traffic to a server that follows a script."""
