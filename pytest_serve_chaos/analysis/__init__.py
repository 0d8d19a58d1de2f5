"""What a history says, as pure functions: outages, percentiles, recovery, statistics, identities and the verdict."""
