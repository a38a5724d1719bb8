"""A real JupyterLab, Notebook 7, Voilà or marimo on loopback, and a notebook, for Playwright."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import nbformat

TOKEN = "memviz-test"
ROOT = Path(__file__).parents[2]
START = """\
import memviz as mv
study = mv.demo("digits")
session = mv.Session(study)
widget = mv.workbench(session)
def swept():
    effects = widget.controller.effects.get("zero")
    return effects is not None and bool(effects.done.all())
widget"""
_KERNEL = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel"


class Server:
    """A server in a private folder, with its settings there; `stop` ends it with its kernels."""

    def __init__(self, folder: Path, module: str, arguments: list[str], answers: str) -> None:
        self.folder = folder
        self.port = _free_port()
        private = folder / "private"
        news = private / "settings" / "@jupyterlab" / "apputils-extension"
        news.mkdir(parents=True)
        quiet = {"fetchNews": "false", "checkForUpdates": False}
        (news / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
        environment = dict(os.environ)
        for name in ("CONFIG", "DATA", "RUNTIME"):
            environment[f"JUPYTER_{name}_DIR"] = str(private / name.lower())
        environment |= {
            "JUPYTERLAB_SETTINGS_DIR": str(private / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(private / "workspaces"),
            "IPYTHONDIR": str(private / "ipython"),
            "MPLCONFIGDIR": str(private / "matplotlib"),
            # With what the caller has: a package may lie in a folder of its own.
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.getenv("PYTHONPATH")])]),
            "PYTHONWARNINGS": "ignore",
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        environment.pop("MPLBACKEND", None)  # figures should show inline, as a user sees them
        self.log = folder / "jupyter.log"
        command = [sys.executable, "-m", module, *arguments, f"--port={self.port}"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self._wait(module, f"http://127.0.0.1:{self.port}/{answers}")

    def _wait(self, module: str, address: str) -> None:
        end = time.monotonic() + 240
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(address, timeout=5) as answer:
                    if answer.status == 200:
                        return
            except HTTPError:  # it answers
                return
            except OSError:
                time.sleep(0.1)
        self.stop()
        raise RuntimeError(f"{module} did not start:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        """End the server and its kernels."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(15)


class JupyterLab(Server):
    """JupyterLab, or Notebook 7, which is built of the same parts."""

    def __init__(self, folder: Path, module: str = "jupyterlab") -> None:
        app, self.tree = {
            "jupyterlab": ("LabApp", "lab/tree"),
            "notebook": ("JupyterNotebookApp", "notebooks"),
        }[module]
        arguments = ["--allow-root", "--ip=127.0.0.1", "--ServerApp.port_retries=0"]
        arguments += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}"]
        arguments += [f"--{app}.expose_app_in_browser=True", "--no-browser"]
        super().__init__(folder, module, arguments, f"api/status?token={TOKEN}")


class Voila(Server):
    """Voilà, which runs a notebook and shows its outputs alone."""

    def __init__(self, folder: Path, cells: list[str]) -> None:
        notebook = str(write_notebook(folder / "shown.ipynb", cells))
        arguments = [notebook, "--Voila.ip=127.0.0.1", "--no-browser"]
        super().__init__(folder, "voila", arguments, "voila/api/themes/none")


class Marimo(Server):
    """marimo, which runs a file of cells as an app; each names what later ones read."""

    def __init__(self, folder: Path, cells: list[tuple[str, str]]) -> None:
        source = "import marimo\n\napp = marimo.App()\n"
        for code, given in cells:
            body = "".join(f"    {line}\n" for line in code.splitlines())
            source += f"\n\n@app.cell\ndef _({given}):\n{body}"
        path = folder / "shown.py"
        path.write_text(source)
        arguments = ["run", str(path), "--headless", "--no-token", "--host=127.0.0.1"]
        super().__init__(folder, "marimo", arguments, "health")


def write_notebook(path: Path, cells: list[str]) -> Path:
    """A notebook of code cells for this interpreter's kernel."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(book, path)
    return path


class Notebook:
    """One notebook, opened and run; `page` is Playwright's."""

    def __init__(self, lab: JupyterLab, browser: Any, name: str, cells: list[str]) -> None:
        write_notebook(lab.folder / f"{name}.ipynb", cells)
        self.context = browser.new_context(viewport={"width": 1400, "height": 1200})
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(
            f"http://127.0.0.1:{lab.port}/{lab.tree}/{name}.ipynb?token={TOKEN}&reset",
            wait_until="domcontentloaded",
            timeout=90_000,
        )
        self.page.wait_for_function(f"() => {_KERNEL}?.status === 'idle'", timeout=240_000)

    def run_all(self) -> None:
        """Run every cell."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")

    def python(self, expression: str) -> Any:
        """The value of an expression in the notebook's kernel, by way of JSON."""
        code = f"import json as _json; print(_json.dumps({expression}))"
        text = self.page.evaluate(
            """async ([code]) => {
                const kernel = KERNEL;
                const future = kernel.requestExecute({ code, store_history: false });
                let text = "";
                let failed = null;
                future.onIOPub = ({ header, content }) => {
                    if (header.msg_type === "stream") text += content.text;
                    if (header.msg_type === "error") failed = `${content.ename}: ${content.evalue}`;
                };
                await future.done;
                if (failed) throw new Error(failed);
                return text;
            }""".replace("KERNEL", _KERNEL),
            [code],
        )
        return json.loads(text.strip().splitlines()[-1])

    def wait_for(self, expression: str, value: Any, seconds: float = 15) -> None:
        """Until an expression in the kernel has this value."""
        end = time.monotonic() + seconds
        found = None
        while time.monotonic() < end:
            found = self.python(expression)
            if found == value:
                return
            time.sleep(0.1)
        raise AssertionError(f"{expression} is {found!r}, not {value!r}, after {seconds} s")

    def theme(self, name: str) -> None:
        """ "JupyterLab Light" or "JupyterLab Dark"."""
        self.page.evaluate(
            "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', { theme })",
            name,
        )
        light = "true" if name.endswith("Light") else "false"
        self.page.wait_for_selector(f"body[data-jp-theme-light='{light}']", state="attached")

    def close(self) -> None:
        """Shut the kernel down and close the page."""
        self.page.evaluate(f"async () => {{ await {_KERNEL}?.shutdown(); }}")
        self.context.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
