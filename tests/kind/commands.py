"""Runs programs alongside the plugin, as somebody at a terminal would."""

from __future__ import annotations

import subprocess


def run(*command: str) -> str:
    """What it printed; fails unless it ends well within two minutes."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120.0).stdout
