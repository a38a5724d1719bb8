"""Print the address that opens a notebook, once the JupyterLab of a process listens.

Run as a file, beside JupyterLab, so that it loads nothing else of memviz.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

_PATIENCE = 120.0  # s that a server may take to start
_LOOK = 0.3  # s between two looks


def address(server: Mapping[str, Any], notebook: str) -> str:
    """The address of a notebook, with the token that lets in.

    Examples
    --------
    >>> server = {"url": "http://localhost:8888/", "root_dir": "/home/a", "token": "t"}
    >>> address(server, "/home/a/my files/b.ipynb")
    'http://localhost:8888/lab/tree/my%20files/b.ipynb?token=t'
    """
    place = quote(Path(os.path.relpath(notebook, server["root_dir"])).as_posix())
    token = f"?token={server['token']}" if server["token"] else ""
    return f"{server['url']}lab/tree/{place}{token}"


def wait(process: int, notebook: str) -> None:
    """Print the address; nothing if the server ends first or needs too long."""
    from jupyter_server.serverapp import list_running_servers

    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and os.getppid() == process:
        for server in list_running_servers():
            if server["pid"] == process:
                print(f"\nThe notebook is at {address(server, notebook)}\n", flush=True)
                return
        time.sleep(_LOOK)


if __name__ == "__main__":
    wait(int(sys.argv[1]), sys.argv[2])
