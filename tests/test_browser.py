"""The notebook as a student meets it, in JupyterLab and in Notebook 7: ``pytest -m browser``."""

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import nbformat
import pytest
from notebooks import NOTEBOOK, blank, figures, load
from sklearn.datasets import get_data_home

pytestmark = pytest.mark.browser

TIME_LIMIT = 240
TOKEN = "student"
FRONT_ENDS = {"lab": ("LabApp", "lab/tree"), "notebook": ("JupyterNotebookApp", "notebooks")}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
QUIETLY = ["disable-quic", "disable-background-networking", "disable-component-update"]
CHROMIUM_OPTIONS = [f"--{option}" for option in ("no-sandbox", "disable-gpu", *QUIETLY)]

NOTEBOOK_PANEL = "window.jupyterapp?.shell.currentWidget"
IDLE = f"{NOTEBOOK_PANEL}?.sessionContext?.session?.kernel?.status === 'idle'"

FINISHED = f"""() => {{
  const cells = [...{NOTEBOOK_PANEL}.content.model.cells].filter(cell => cell.type === "code");
  const failed = cells.some(cell => cell.outputs.toJSON().some(x => x.output_type === "error"));
  return {IDLE} && (failed || cells.every(cell => cell.executionCount > 0));
}}"""

# What is out of sight need not be in the page: go to each cell and wait for what it should show.
LOOK = """async ([index, expected]) => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  await notebook.scrollToItem(index, "auto");
  const cell = notebook.widgets[index];
  await cell.ready;
  const all = selector => [...cell.node.querySelectorAll(selector)];
  const unfold = () => all("details").forEach(x => { x.open = true; });
  const visible = x => x.checkVisibility({ contentVisibilityAuto: true })
    && x.getBoundingClientRect().height > 0;
  const shown = selector => all(selector).filter(visible);
  const look = () => unfold() || ({
    figures: shown(".jp-OutputArea-output img").filter(x => x.naturalWidth > 0).length,
    math: shown(".jp-MarkdownOutput mjx-container").length > 0,
  });
  const complete = x => x.figures === expected.figures && x.math === expected.math;
  for (let i = 0; i < 100 && !(shown(".jp-Cell-inputWrapper").length && complete(look())); i++)
    await new Promise(done => setTimeout(done, 100));
  return {
    ...look(),
    editor: shown(".jp-InputArea-editor").length > 0,
    placeholder: shown(".jp-InputPlaceholder").length > 0,
    rawMath: shown(".jp-MarkdownOutput").some(x => x.textContent.includes("$"))
      || all("mjx-merror, [data-mjx-error]").length > 0,
    scrolled: cell.node.matches(".jp-mod-outputsScrolled") || all(".jp-TrimmedOutputs").length > 0,
    tooWide: shown(".jp-OutputArea-output, .jp-MarkdownOutput, .cm-scroller")
      .some(x => x.scrollWidth > x.clientWidth + 1),
  };
}"""


def expected(cell):
    """Return what the page should show of a cell of the reference copy."""
    math = cell.cell_type == "markdown" and "$" in cell.source
    return {"figures": len(figures(cell.get("outputs", []))), "math": math}


@contextmanager
def jupyter(front_end, folder, home):
    """Yield the address of the notebook's page; the server ends with the block."""
    environment = {  # of a new user: the notebook has to bring its own module
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(home),
        "SCIKIT_LEARN_DATA": get_data_home(),
        "OMP_NUM_THREADS": "1",  # other tests run beside this one
    }
    # matplotlib says on stderr that it lists the fonts, if that takes long
    subprocess.run(
        [sys.executable, "-c", "import matplotlib.font_manager"], env=environment, check=True
    )
    app, page = FRONT_ENDS[front_end]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={folder}",
        f"--IdentityProvider.token={TOKEN}",
        f"--{app}.expose_app_in_browser=True",
    ]
    command = [sys.executable, "-m", "jupyter", front_end, *options]
    with subprocess.Popen(command, cwd=folder, env=environment) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for_answer(server, f"{url}/api?token={TOKEN}")
            yield f"{url}/{page}/{NOTEBOOK.name}?token={TOKEN}"
        finally:
            server.terminate()  # which ends the kernel as well


def wait_for_answer(server, url):
    for _ in range(120):
        assert server.poll() is None, "the server has ended: its log is above"
        try:
            return urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.5)
    pytest.fail("the server does not answer: its log is above")


@pytest.fixture(scope="module", params=FRONT_ENDS)
def visit(request, tmp_path_factory, olivetti):
    """Run the notebook in the browser: the reference, the saved file, what each cell shows."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is neither chromium nor google-chrome")
    folder = tmp_path_factory.mktemp(request.param)
    path = folder / NOTEBOOK.name
    reference = load()
    nbformat.write(blank(reference), path)
    home = tmp_path_factory.mktemp("home")
    with (
        jupyter(request.param, folder, home) as url,
        playwright.sync_playwright() as driver,
        driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS) as browser,
    ):
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.goto(url)
        page.wait_for_function(f"() => {IDLE}", timeout=60_000)
        page.locator(".lm-MenuBar-item", has_text="Run").click()
        page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()
        page.wait_for_function(FINISHED, timeout=TIME_LIMIT * 1000, polling=500)
        page.keyboard.press("Control+s")
        page.wait_for_function(f"() => !{NOTEBOOK_PANEL}.model.dirty", timeout=30_000)
        saved = nbformat.read(path, as_version=4)
        seen = {
            cell.id: page.evaluate(LOOK, [index, expected(cell)])
            for index, cell in enumerate(reference.cells)
        }
    return SimpleNamespace(reference=reference, saved=saved, seen=seen)


def which(visit, what):
    return [id for id, cell in visit.seen.items() if cell[what]]


def test_every_cell_runs_in_order_without_an_error_or_a_warning(visit):
    code = [cell for cell in visit.saved.cells if cell.cell_type == "code"]
    outputs = [(cell.id, output) for cell in code for output in cell.outputs]
    assert [id for id, output in outputs if output.output_type == "error"] == []
    assert [id for id, output in outputs if output.get("name") == "stderr"] == []
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


def test_every_figure_and_formula_of_the_reference_copy_is_shown(visit):
    there = {cell.id: expected(cell) for cell in visit.reference.cells}
    for what in ("figures", "math"):
        assert any(cell[what] for cell in there.values())
        seen = {id: cell[what] for id, cell in visit.seen.items()}
        assert seen == {id: cell[what] for id, cell in there.items()}
    assert which(visit, "rawMath") == []


def test_only_the_cells_that_draw_are_folded_and_the_set_up(visit):
    code = [cell for cell in visit.reference.cells if cell.cell_type == "code"]
    folded = [cell.id for cell in code if "jupyter" in cell.metadata]
    assert folded[0] == "set-up" and which(visit, "placeholder") == folded
    assert which(visit, "editor") == [cell.id for cell in code if cell.id not in folded]


def test_nothing_is_cut_or_has_to_be_scrolled(visit):
    assert which(visit, "scrolled") == []
    assert which(visit, "tooWide") == []
