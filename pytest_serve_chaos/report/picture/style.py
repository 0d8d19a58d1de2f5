"""The colours of a picture, light and dark, as the reader's browser prefers."""

from __future__ import annotations

from collections.abc import Mapping

_FONT = "font-family:system-ui,-apple-system,'Segoe UI','Noto Sans',Helvetica,Arial,sans-serif"

_LIGHT: Mapping[str, str] = {
    "page": "fill:#ffffff",
    "ink": "fill:#1f2328",
    "dim": "fill:#59636e",
    "bad": "fill:#b3202b",
    "grid": "stroke:#e3e7ec",
    "rule": "stroke:#b9c0c8",
    "good": "fill:#2f74c9",
    "late": "fill:#b87a00",
    "lost": "fill:#cf222e",
    "lost-line": "stroke:#cf222e",
    "fault-line": "stroke:#cf222e",
    "limit": "stroke:#b87a00",
    "answered": "fill:#9cc3ee",
    "fault": "fill:#cf222e;fill-opacity:.09",
    "outage": "fill:#e39a00;fill-opacity:.16",
    "after": "fill:#59636e;fill-opacity:.07",
    "old": "fill:#c3ccd6",
    "new": "fill:#8fd3a1",
    "victim": "fill:#f3b4b6",
    "fine": "fill:#cfe6d5",
    "other": "fill:#f5d78e",
    "mark": "stroke:#59636e",
    "stale": "stroke:#cf222e",
}

_DARK: Mapping[str, str] = {
    "page": "fill:#0d1117",
    "ink": "fill:#e6edf3",
    "dim": "fill:#9ba5b0",
    "bad": "fill:#ff8f88",
    "grid": "stroke:#232a33",
    "rule": "stroke:#4b5561",
    "good": "fill:#6cabff",
    "late": "fill:#e3b341",
    "lost": "fill:#ff6b63",
    "lost-line": "stroke:#ff6b63",
    "fault-line": "stroke:#ff6b63",
    "limit": "stroke:#e3b341",
    "answered": "fill:#2c5486",
    "fault": "fill:#ff6b63;fill-opacity:.15",
    "outage": "fill:#e3b341;fill-opacity:.17",
    "after": "fill:#9ba5b0;fill-opacity:.09",
    "old": "fill:#3d4754",
    "new": "fill:#226b3a",
    "victim": "fill:#8a2f34",
    "fine": "fill:#1d4a2c",
    "other": "fill:#6b5310",
    "mark": "stroke:#9ba5b0",
    "stale": "stroke:#ff6b63",
}

_SHAPES = (
    f"text{{{_FONT};font-size:11px}}"
    ".big{font-size:15px;font-weight:600}.head{font-size:12px}.strong{font-weight:600}"
    ".grid,.rule,.mark,.limit,.fault-line,.lost-line,.stale{fill:none;stroke-width:1}"
    ".edge{stroke:#8b949e;stroke-width:.6}"
    ".limit{stroke-dasharray:4 3}.lost-line{stroke-width:1.4}.stale{stroke-width:2}"
    ".d1{fill-opacity:.35}.d2{fill-opacity:.55}.d3{fill-opacity:.8}.d4{fill-opacity:1}"
)


def style_sheet() -> str:
    """The style sheet; classes alone, for programs that know no variables."""
    dark = "".join(_rule(name, dark) for name, dark in _DARK.items())
    return (
        "".join(_rule(name, light) for name, light in _LIGHT.items())
        + _SHAPES
        + (f"@media (prefers-color-scheme:dark){{{dark}}}")
    )


def _rule(name: str, declarations: str) -> str:
    return f".{name}{{{declarations}}}"
