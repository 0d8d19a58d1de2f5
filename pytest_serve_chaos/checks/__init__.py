"""The demands on an experiment, a module each, and how a verdict is composed of them."""
