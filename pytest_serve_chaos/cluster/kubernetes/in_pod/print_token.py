"""Prints the token that Ray wants, as KubeRay has put it into this container; an empty line if there is none."""

from __future__ import annotations

import os

if __name__ == "__main__":
    print(os.environ.get("RAY_AUTH_TOKEN", ""))
