"""Find a student's answers in what was handed in and serve calls of them, in their own process.

What is parsed, imported and run here is the student's, so nothing that this process says is taken
for a verdict on the numbers. It reads requests and writes replies, a line of JSON each; process.py
says which.
"""

from __future__ import annotations  # and of the students' code: none needs to be understood

import ast
import builtins
import contextlib
import importlib.util
import json
import linecache
import os
import random
import re
import sys
import traceback
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from caller import NOT_ATTEMPTED, Answer, stopped, used
from exercises import EXERCISES, is_blank, is_idle
from judge import Settled, Verdict

NOTEBOOKS = (".ipynb", ".ipynb.json", ".ipynb.txt")
MOST_CODE = 2**20  # letters in all cells with code
MARKED_CELLS = 100  # in a .py, up to which lines are counted as in the file
MOST_LINES = 1000  # that IPython reads of a cell, which it reads anew for each magic
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
FIRM = (*DEFINITIONS, ast.Import, ast.ImportFrom)  # what they bind is no number
UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)  # raised by ast.parse
SHARED = {"N": 100, "M": 256, "K": 2}  # names of the notebook that the caller changes
SHARED |= {"R": np.ones((100, 256)), "P": np.ones((100, 2)), "Q": np.ones((256, 2))}
OF_THE_SHEET = {  # imports that a student who hands in only the functions relies on
    "np": "import numpy as np",
    "plt": "import matplotlib.pyplot as plt",
    "time": "from time import time",
    "resize": "from skimage.transform import resize",
}
ANSWER = re.compile(rf"^[ \t]*(def[ \t]+)?({'|'.join(EXERCISES)})\b", flags=re.M)
SETTINGS = ("sys.set", "np.set", "numpy.set", "torch.set")  # such as sys.setrecursionlimit
PROJECT = "mf_solutions"
USES_PROJECT = {f"uses {PROJECT}": f"It uses the module {PROJECT}, which holds the solution."}
FILES_NOTED = {
    f"{PROJECT}.py": USES_PROJECT,
    "olivetti_py3": {"loads the faces": "It loads the faces by itself."},
}

# What the cells of notebooks have that Python has not
CELL_MAGIC = re.compile(r"\A((?:[ \t]*(?:#.*)?\n)*)%%.*")
EMPTY_LOOP = re.compile(  # only a comment is left in it, as in the hand-out's first copies
    r"^([ \t]*)(for\b[^#\n]*:)((?:[ \t]*(?:#.*)?\n)+)(?=\1return\b)", flags=re.M
)
MARGIN = re.compile(r"^(?=(?:def|async|class|import|from)\b|@)", flags=re.M)
HEADER = re.compile(r"(for|while|if|with|try|elif|else|return)\b")
BELOW = re.compile(r"(?<=\n)(?=[^\s#)\]}])")  # where what stands below a definition begins


def no_verdict(label, text):
    return Settled(Verdict("no verdict", label, text))


# ---- From files to cells


class Cell(NamedTuple):
    file: str
    place: int  # in the file, from 1; texts count
    source: str
    is_code: bool = True


def read_folder(folder):
    """Return the cells of the modules that hold answers, and then of the notebooks."""
    cells, fault = [], None
    for path in sorted(folder.rglob("*")):
        try:
            cells += cells_of(path.relative_to(folder).as_posix(), path)
        except Settled as settled:
            fault = settled
    if fault and not cells:
        raise fault
    text = "\n".join(cell.source for cell in cells if cell.is_code and not is_module(cell.file))
    kept = {cell.file for cell in cells if not is_module(cell.file) or ANSWER.search(cell.source)}
    kept |= {file for file in {cell.file for cell in cells} if is_run(file, text)}
    cells = [cell for cell in cells if cell.file in kept] or cells
    cells.sort(key=lambda cell: not is_module(cell.file))
    if sum(len(cell.source) for cell in cells if cell.is_code) > MOST_CODE:
        raise no_verdict("too large", f"expected at most {MOST_CODE} letters of code.")
    return cells


def is_run(module, text):
    """Whether a notebook runs or opens a module: ``%run helpers.py``."""
    stem = re.escape(Path(module).stem)
    return re.search(rf"(?m)^[ \t]*%run[ \t].*\b{stem}\b|\b{stem}\.py\b", text)


def is_module(name):
    return name.lower().endswith(".py")


def cells_of(name, path):
    """Return the cells of a notebook or a module, none of another file, or raise Settled."""
    if not name.lower().endswith((*NOTEBOOKS, ".py")):
        return []
    try:
        content = path.read_bytes()
        if not content.strip():
            raise ValueError("the file is empty")
        return (module_cells if is_module(name) else notebook_cells)(name, content)
    except Exception as error:  # what is wrong with a notebook may be anything
        raise no_verdict("not readable", f"{type(error).__name__}: {error}") from error


def notebook_cells(name, content):
    """Return the cells of a notebook of any version."""
    notebook = json.loads(content, parse_int=float)  # which takes no time for many digits
    cells = []
    for sheet in notebook.get("worksheets", [notebook]):  # these were there before version 4
        for cell in sheet["cells"]:
            lines = cell.get("source", cell.get("input", ""))
            source = "".join(lines).encode("utf-8", "replace").decode()
            cells.append(Cell(name, len(cells) + 1, source, cell["cell_type"] == "code"))
    return cells


def module_cells(name, content):
    """Return a module as one cell, or as those that VS Code or nbconvert marks."""
    if b"\0" in content:  # UTF-16, as some editors save
        raise no_verdict("not a notebook", "expected a notebook or a .py file in UTF-8.")
    text = content.decode("utf-8-sig", "replace")
    sources = re.split(r"^(?=# ?%%|# In\[[\d ]*\])", text, flags=re.M)
    cells, above = [], 0
    for place, source in enumerate(sources, 1):
        # Blank lines in the place of the cells before, so that lines are counted as in the file
        blank = "\n" * above if len(sources) <= MARKED_CELLS else ""
        cells.append(Cell(name, place, blank + source))
        above += source.count("\n")
    return cells


# ---- From cells to statements


class Reading:
    """The statements of all cells, and what to say if none of them is the answer."""

    def __init__(self, cells, name):
        self.name, self.definition = name, re.compile(rf"^[ \t]*(async +)?def +{name}\b", re.M)
        self.statements, self.aside, self.calls = [], set(), 0
        self.fault = None  # of the last attempt, or that there is only a blank
        self.texts = [cell for cell in cells if not cell.is_code]
        for number, cell in enumerate(cell for cell in cells if cell.is_code):
            self.read(number, readable(cell.source))

    def read(self, number, source):
        file, above = f"<cell {number + 1}>", 0
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        for part in parts(source):
            try:
                tree = ast.parse(part)
                ast.increment_lineno(tree, above)
                self.keep(tree.body, number, file)
            except UNREADABLE as error:
                if self.definition.search(part):
                    self.fault = unreadable(error, number, above)
                elif not part.startswith(("def ", "async ", "class ", "@")):
                    self.aside.add(number)
            above += part.count("\n")

    def keep(self, statements, number, file):
        for node in statements:
            node.cell, node.file, node.binds = number, file, bound(node)
            node.calls = any(is_call_of_an_answer(inner) for inner in at_once(node))
            self.calls += node.calls
            node.place = (number, self.calls)
            if self.name in node.binds and (is_blank(node) or is_idle(node)):
                self.fault = self.fault or Settled(NOT_ATTEMPTED)
            else:
                self.statements.append(node)

    def not_found(self):
        """Return what to say where there is no attempt: what comes nearest to an answer."""
        near = ""
        wanted = first_arguments(ast.parse(EXERCISES[self.name].blank).body[0])
        for node in self.statements:
            if isinstance(node, ast.ClassDef) and "arguments" not in near:
                near = f", but there is a class {node.name}"
            elif isinstance(node, ast.FunctionDef) and first_arguments(node) == wanted:
                near = f", but {node.name} takes the same arguments"
        for cell in self.texts:
            if self.definition.search(cell.source):
                near = f"; the text cell {cell.place} of {cell.file} has a function of that name"
        return no_verdict("not found", f"no cell defines a function {self.name}{near}.")


def first_arguments(function):
    return [argument.arg for argument in function.args.args[:4]]


def unreadable(error, number, above):
    """Return what to say of an answer that Python cannot read, below so many lines of its cell."""
    label, where = type(error).__name__, ""
    message = re.sub(r" on line \d+", "", getattr(error, "msg", label))
    line = getattr(error, "lineno", None)
    if line:
        where = f", line {line + above}"
    settled = Settled(Verdict("wrong", label + where, f"Python cannot read it: {message}{where}."))
    settled.line = line and (number, line + above)
    return settled


def parts(source):
    """Return the parts that Python is to read one by one; only one if it can read it all."""
    if parses(source):
        return [source]
    found = []
    for part in MARGIN.split(source):
        definition, *below = BELOW.split(part, maxsplit=1)
        if below and parses(definition) and is_prose(below[0]):
            found += [definition, *below]
        else:
            found.append(part)
    return found


def is_prose(text):
    """Whether a text is no code, told by its first line of several words; one may be either."""
    for line in text.splitlines():
        if len(line.split()) > 1:
            return not parses(line) and not HEADER.match(line)
    return True


def parses(source):
    try:
        ast.parse(source)
    except UNREADABLE:
        return False
    return True


def readable(source):
    """Return plain Python: magics and questions do nothing, nor do loops without statements."""
    source = "\n".join(source.replace("\0", " ").rstrip().splitlines())
    if not parses(source):
        source = EMPTY_LOOP.sub(r"\1\2 pass\3", CELL_MAGIC.sub(r"\1", source))
    if not parses(source):
        source = without_magics(source)
    return source


def without_magics(source):
    """Have IPython turn magics, shell lines and questions into calls, which do nothing here."""
    from IPython.core.inputtransformer2 import TransformerManager  # it takes a while

    lines = source.count("\n") + 1
    if lines > MOST_LINES:
        return source
    with contextlib.suppress(Exception):  # of the tokenizer, where a line is no Python at all
        plain = TransformerManager().transform_cell(source)
        source = "\n" * (lines - plain.count("\n")) + plain  # as some are dropped or joined
    return source


# ---- What statements bind


def at_once(node):
    """Yield what runs where a statement stands: all that is in it, but not in its definitions."""
    todo = [node]
    for node in todo:  # which grows
        yield node
        if isinstance(node, DEFINITIONS):
            todo += node.decorator_list
        else:
            todo += ast.iter_child_nodes(node)


def bound(statement):
    """Return the names that a statement binds, or changes, where it stands; * for all."""
    names = set()
    for node in at_once(statement):
        attribute = getattr(node, "attr", "")
        if isinstance(node, (*DEFINITIONS, ast.alias)):
            names.add(getattr(node, "asname", "") or node.name.partition(".")[0])
        elif isinstance(getattr(node, "ctx", None), ast.Store) or attribute == "register":
            names |= {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
        elif attribute and f"{getattr(node.value, 'id', '')}.{attribute}".startswith(SETTINGS):
            names.add("*")
    return names


def is_call_of_an_answer(node):
    """Whether this is a call such as ``matrix_factorization(R, P, Q, K)``, which takes long."""
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") in EXERCISES


# ---- Running what an answer needs


class Nothing:
    """Stands for what changes no number: magics of IPython, and bars where there is no tqdm."""

    def __init__(self, iterable=(), *args, **kwargs):
        self.iterable = iterable

    def __call__(self, *args, **kwargs):
        return self

    __getattr__ = __enter__ = __call__

    def __exit__(self, *error):
        pass

    def __iter__(self):
        return iter(self.iterable)


def lend_tqdm():
    """Put bars that show nothing in the place of tqdm, and of what it has inside."""
    module = type(sys)("tqdm")
    module.tqdm = module.tqdm_notebook = Nothing
    module.trange = module.tnrange = lambda *limits, **options: Nothing(range(*limits))
    for name in ("auto", "autonotebook", "notebook", "std"):
        setattr(module, name, module)
        sys.modules[f"tqdm.{name}"] = module
    sys.modules["tqdm"] = module


class Scope(dict):
    """The names that an answer needs, as they stand where its cell ends; and its own builtins.

    What counts is what stands up to the end of the answer's cell, or up to a call in it. What is
    missing there may come further down, from the first cell that has it.
    """

    def __init__(self, statements, name):
        self.update(vars(builtins), __name__="__main__", __builtins__=self)
        self.update(get_ipython=Nothing, display=Nothing())
        self.errors, self.notes = {}, {}
        places = [node.place for node in statements if name in node.binds]
        self.own = max(places, default=(0, 0))
        self.until = dict.fromkeys({"*", *self}, self.own)  # where what binds a name counts
        for node in statements:
            for bound_name in node.binds:
                self.until.setdefault(bound_name, max(node.place, self.own))
        assigned = [node.binds for node in statements if not isinstance(node, FIRM)]
        self.given = SHARED.keys() & set().union(*assigned)
        self.update((x, SHARED[x]) for x in self.given)
        self.waiting = self.needed(statements, name)
        self.lines = []
        for node in self.waiting:
            first, *_ = [*getattr(node, "decorator_list", []), node]
            self.lines.append((node.cell, first.lineno, node.end_lineno))
        while self.waiting:
            self.run(self.waiting[0])

    def needed(self, statements, name):
        """Return the statements that the answer needs, and those that these need."""
        needed, more = set(), {name, "*"}
        while more:
            needed |= more
            found = []
            for node in statements:
                counts = [x for x in node.binds & needed if node.place <= self.until[x]]
                if counts and (name in node.binds or not node.calls):
                    found.append(node)
            more = set().union(*map(self.uses, found)) - needed - self.given
        return found

    def uses(self, node):
        with contextlib.suppress(*UNREADABLE):
            return used(compiled(node), {})
        return set()

    def __missing__(self, name):
        for node in [node for node in self.waiting if name in node.binds]:
            self.run(node)
        if name not in self and name in OF_THE_SHEET and name not in self.until:
            exec(OF_THE_SHEET[name], self)
            self.notes["imports of the sheet"] = f"It does not import {name}: the sheet does."
        if name in self:
            return self[name]
        raise self.errors.get(name, KeyError(name))

    def run(self, node):
        self.waiting.remove(node)
        try:
            exec(compiled(node), self)
        except (Exception, SystemExit) as error:
            self.errors.update(dict.fromkeys(node.binds, error))
            if getattr(node, "decorator_list", []):  # such as @njit, where there is no numba
                node.decorator_list = []
                self.waiting.insert(0, node)


def compiled(node):
    return compile(ast.Module([node], []), node.file, "exec")


# ---- Serving calls


class Server:
    def __init__(self):
        self.cells = self.answer = self.scope = None

    def read(self):
        """Read what lies in this folder, before anything of the student's has run."""
        self.cells = read_folder(Path.cwd())
        modules = Path.cwd().rglob("*.py")
        sys.path += sorted({str(path.parent) for path in modules})  # wherever the notebook looks
        return {"cells": [cell[:3] for cell in self.cells if cell.is_code]}

    def define(self, name):
        self.answer = None
        sys.modules.pop(PROJECT, None)
        if self.cells is None:  # then reading says why, of any exercise
            self.read()
        reading = Reading(self.cells, name)
        self.scope = Scope(reading.statements, name)
        files = {node.file for node in reading.statements}
        if name not in self.scope:
            error = self.scope.errors.get(name)
            if error:
                raise stopped(error, files) from error
            raise reading.fault or reading.not_found()
        self.answer = Answer(self.scope[name], EXERCISES[name].gradient, self.scope, files)
        if self.scope.own[0] in reading.aside:
            text = "In its cell there is also text that Python cannot read."
            self.answer.notes["text in its cell"] = text
        return {"source": self.scope.lines}

    def call(self, R, P, Q, steps, numbers):
        """Return the factors, always with the same random numbers."""
        np.random.seed(0)
        random.seed(0)
        R, P, Q = map(np.array, (R, P, Q))
        return {"factors": self.answer(R, P, Q, steps, *numbers)}

    def reply(self, what, details):
        """Return what one of the above returns, or the verdict that it ends in, with notes."""
        try:
            reply = getattr(self, what)(**details)
        except BaseException as error:
            settled = error if isinstance(error, Settled) else stopped(error, ())
            reply = {"verdict": settled.args[0]}
            line = getattr(settled, "line", None) or raised_in(settled.__cause__)
            if line:
                reply["line"] = line
        if self.answer:
            if PROJECT in sys.modules:
                self.answer.notes.update(USES_PROJECT)
            reply["notes"] = self.answer.notes | self.scope.notes
        return reply


def raised_in(error):
    """Return the last line of the student's that an exception went through: the cell, the line."""
    frames = traceback.extract_tb(getattr(error, "__traceback__", None))
    for frame in frames[::-1]:
        cell = re.fullmatch(r"<cell (\d+)>", frame.filename)
        if cell:
            return int(cell[1]) - 1, frame.lineno
    return None


def guard(memory, server):
    """Bound memory and files where the system can; see which files are opened."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        most = int(memory * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**28, 2**28))

    def hook(event, args):
        if event == "open" and server.answer:
            for name, note in FILES_NOTED.items():
                if name in str(args[0]):
                    server.answer.notes.update(note)

    sys.addaudithook(hook)


def serve(memory):
    """Answer requests on what were standard input and output; these lead nowhere from now on."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    server = Server()
    guard(memory, server)
    warnings.simplefilter("ignore")
    fresh = np.random.default_rng  # one without a seed gives the same numbers at every call
    np.random.default_rng = lambda seed=None: fresh(0 if seed is None else seed)
    for module in ("judge", "caller", "exercises"):
        del sys.modules[module]  # a student may have modules of these names
    here = sys.path[0]  # where the project's module is
    sys.path[:] = [os.getcwd(), *sys.path[1:], here]
    if not importlib.util.find_spec("tqdm"):
        lend_tqdm()
    write(replies, ["ready"])
    for line in requests:
        number, what, details = json.loads(line)
        reply = server.reply(what, details)
        for pipe in (requests, replies):  # whatever the answer did to them
            os.set_blocking(pipe.fileno(), True)
        write(replies, [number, reply])


def write(stream, message):
    text = json.dumps(message, default=np.ndarray.tolist)
    stream.write(b"\n" + text.encode() + b"\n")
    stream.flush()


if __name__ == "__main__":
    serve(float(sys.argv[1]))
