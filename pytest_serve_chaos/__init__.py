"""Ray Serve's end-to-end fault-tolerance guide as a pytest plugin."""

__version__ = "0.1.0"
