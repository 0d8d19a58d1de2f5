"""Where pytest looks for tests in this repository: not among benchmarks and what was built."""

from __future__ import annotations

collect_ignore_glob = ["benchmarks/*", "build/*", "dist/*"]
