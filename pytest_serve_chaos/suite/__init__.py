"""Ray Serve's fault-tolerance guide, statement by statement, as tests: run them with ``--pyargs pytest_serve_chaos.suite``."""
