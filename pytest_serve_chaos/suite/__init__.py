"""Ray Serve's fault-tolerance guide, statement by statement: run it with ``--pyargs pytest_serve_chaos.suite``."""
