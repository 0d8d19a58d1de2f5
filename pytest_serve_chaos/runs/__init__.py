"""A directory of reports, which has those of many runs: the newest of them, and a page that lists them all."""
