"""Open-loop traffic: requests are sent when the schedule says, whatever the answers do. Knows a URL, nothing else."""
