"""What a history says, as pure functions: outages, statistics, identities and the verdict."""
