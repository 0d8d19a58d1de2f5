"""The local backend: Ray nodes as processes of this machine, each a session of its own, and a real Redis."""
