"""Credentials of a kubeconfig in files that are in memory.

The Kubernetes client writes the certificate and the key of a user into files in the directory for temporary files, and
removes them when the process ends: one that is killed leaves them there.
"""

from __future__ import annotations

import os
import threading
from typing import Any

_WRITER = "_create_temp_file_with_content"

_lock = threading.Lock()
_files: dict[bytes, str] = {}


def keep_keys_in_memory(kube_config: Any) -> None:
    """Has the Kubernetes client write such files into memory, where this machine and this version of it can do that.

    Args:
        kube_config: Its module `kubernetes.config.kube_config`.
    """
    if hasattr(os, "memfd_create") and hasattr(kube_config, _WRITER):
        setattr(kube_config, _WRITER, file_in_memory)


def file_in_memory(content: str | bytes, *_: object, **__: object) -> str:
    """The path of a file with that content, which is gone with this process, however it ends."""
    data = content.encode() if isinstance(content, str) else content
    with _lock:
        if data not in _files:
            handle = os.memfd_create("kubeconfig")
            with open(handle, "wb", closefd=False) as file:
                file.write(data)
            _files[data] = f"/proc/{os.getpid()}/fd/{handle}"
        return _files[data]
