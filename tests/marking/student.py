"""Find a student's answers in what was handed in and serve calls of them, in their own process.

What is parsed, imported and run here is the student's, so nothing that this process says is taken
for a verdict on the numbers. It reads requests and writes replies, a line of JSON each; process.py
says which.
"""

import __future__

import ast
import builtins
import contextlib
import copy
import importlib.machinery
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
MOST_LINES = 20_000  # that IPython reads of a cell, which it reads anew for each magic
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
IMPORTS = (ast.Import, ast.ImportFrom)
BLOCKS = ("body", "handlers", "orelse", "finalbody")
UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)  # raised by ast.parse
SHARED = {  # names of the notebook that the caller changes
    "N": 100,
    "M": 256,
    "K": 2,
    "R": np.ones((100, 256)),
    "P": np.ones((100, 2)),
    "Q": np.ones((256, 2)),
}
OF_THE_SHEET = {  # imports that a student who hands in only the functions relies on
    "np": "import numpy as np",
    "plt": "import matplotlib.pyplot as plt",
    "time": "from time import time",
    "resize": "from skimage.transform import resize",
}
AT_MARGIN = re.compile(r"[^\s#)\]}@]")  # where a statement, or a text, begins
HEADER = re.compile(r"(for|while|if|with|try|elif|else|return)\b")
BLANK = re.compile(r"\s*(#|$)")  # a line without code
PROJECT = "mf_solutions"
USES_PROJECT = {f"uses {PROJECT}": f"It uses the module {PROJECT}, which holds the solution."}


def no_verdict(label, text):
    return Verdict("no verdict", label, text)


# ---- From files to cells


class Cell(NamedTuple):
    file: str
    place: int  # in the file, from 1; texts count
    source: str
    is_code: bool = True


def read_folder(folder):
    """Return the cells of the notebooks and the answers' modules in a folder, notebooks last."""
    notebooks, modules, faults = [], {}, []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        try:
            if name.lower().endswith(NOTEBOOKS):
                notebooks += cells_of(name, path)
            elif name.lower().endswith(".py"):
                modules[path] = cells_of(name, path)
        except Settled as settled:
            faults.append(settled)
    cells = answers_in(modules, notebooks) + notebooks
    if not cells and faults:
        raise faults[0]
    if sum(len(cell.source) for cell in cells if cell.is_code) > MOST_CODE:
        raise Settled(no_verdict("too large", f"expected at most {MOST_CODE} letters of code."))
    return cells


def answers_in(modules, notebooks):
    """Return the cells of the modules that hold answers, or of all if there is nothing else."""
    answers = []
    for path, cells in modules.items():
        if holds_answer(path, cells, notebooks):
            answers += cells
    if answers or notebooks:
        return answers
    return sum(modules.values(), [])


def cells_of(name, path):
    """Return the cells of a notebook or a module, or raise Settled."""
    try:
        content = path.read_bytes()
        if not content.strip():
            raise ValueError("the file is empty")
        if name.lower().endswith(".py"):
            return module_cells(name, content)
        return notebook_cells(name, content)
    except Exception as error:  # what is wrong with a notebook may be anything
        text = f"{type(error).__name__}: {error}"
        raise Settled(no_verdict("not readable", text)) from error


def notebook_cells(name, content):
    """Return the cells of a notebook of any version."""
    notebook = json.loads(content, parse_int=float)  # which takes no time for many digits
    sheets = notebook.get("worksheets", [notebook])  # before version 4
    cells = []
    for sheet in sheets:
        for cell in sheet["cells"]:
            lines = cell.get("source", cell.get("input", ""))
            source = "".join(lines).encode("utf-8", "replace").decode()
            is_code = cell["cell_type"] == "code"
            cells.append(Cell(name, len(cells) + 1, source, is_code))
    return cells


def module_cells(name, content):
    """Return a module as one cell, or as those that VS Code or nbconvert marks."""
    if b"\0" in content:  # UTF-16, as some editors save
        text = "expected a notebook or a .py file in UTF-8."
        raise Settled(no_verdict("not a notebook", text))
    text = content.decode("utf-8-sig", "replace")
    sources = re.split(r"^(?=# ?%%|# In\[[\d ]*\])", text, flags=re.M)
    return [Cell(name, place, source) for place, source in enumerate(sources, 1)]


def holds_answer(path, cells, notebooks):
    """Whether a module defines an answer, or is run by a notebook: ``%run helpers.py``."""
    defines = re.compile(rf"^[ \t]*(def[ \t]+)?({'|'.join(EXERCISES)})\b", flags=re.M)
    if any(defines.search(cell.source) for cell in cells):
        return True
    stem = re.escape(path.stem)
    runs = re.compile(rf"^[ \t]*%run[ \t].*\b{stem}\b|\b{stem}\.py\b", flags=re.M)
    return any(cell.is_code and runs.search(cell.source) for cell in notebooks)


# ---- From cells to statements


class Fault(NamedTuple):
    """Why what was found is no answer."""

    verdict: Verdict
    line: tuple = None  # the cell, from 0, and the line in it


class Reading:
    """The statements of all cells, and what to say if none of them is the answer."""

    def __init__(self, cells, name):
        self.name, self.cells = name, cells
        self.statements, self.aside = [], set()
        self.blank, self.faults = [], []
        for number, cell in enumerate(cells):
            if cell.is_code:
                self.read(number, cell.source)

    def read(self, number, source):
        source = readable(source)
        file = f"<cell {number + 1}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        for offset, part in parts(source):
            try:
                self.keep(part, number, offset)
            except UNREADABLE as error:
                if definition_of(self.name).search(part):
                    self.unreadable(part, number, offset, error)
                elif not re.match(r"(def|async|class|@)\b", part):
                    self.aside.add(number)

    def unreadable(self, part, number, offset, error):
        """Find the answer above some text, or say why Python cannot read it."""
        ended = without_prose(part)
        if ended:
            self.aside.add(number)
            self.keep(ended, number, offset)
            return
        label, line = type(error).__name__, getattr(error, "lineno", None)
        message = re.sub(r" on line \d+", "", getattr(error, "msg", "") or label)
        text = f"Python cannot read it: {message}."
        place = None
        if line:
            place = (number, line + offset)
            label = f"{label}, line {line + offset} of the cell"
            text = f"{text[:-1]}, in line {line + offset} of the cell."
        self.faults.append(Fault(Verdict("wrong", label, text), place))

    def keep(self, part, number, offset):
        """Keep the statements of a part of a cell that begins so many lines further down."""
        tree = ast.parse(part)
        ast.increment_lineno(tree, offset)
        for node in tree.body:
            node.cell, node.file = number, f"<cell {number + 1}>"
            node.binds = bound(node)
            if self.name not in node.binds:
                self.statements.append(node)
            elif is_blank(node) or is_idle(node):
                self.blank.append(Fault(NOT_ATTEMPTED))  # which counts less than an attempt
            else:
                self.statements.append(node)

    def is_found(self):
        return any(self.name in node.binds for node in self.statements)

    def fault(self):
        """Return what to say of the last attempt, or of a blank, or of what comes nearest."""
        if self.faults or self.blank:
            return [*self.blank, *self.faults][-1]
        text = f"no cell defines a function {self.name}"
        return Fault(no_verdict("not found", f"{text}{self.candidate()}."))

    def candidate(self):
        """Return where else the answer may be: a text, a function of another name, a class."""
        for cell in self.cells:
            if not cell.is_code and definition_of(self.name).search(cell.source):
                return f"; the text cell {cell.place} of {cell.file} has a function of that name"
        blank = ast.parse(EXERCISES[self.name].blank).body[0]
        wanted = arguments(blank)
        for node in self.statements[::-1]:
            if isinstance(node, ast.FunctionDef) and node.name not in EXERCISES:
                if arguments(node)[:4] == wanted[:4]:
                    return f", but {node.name} takes the same arguments"
        for node in self.statements[::-1]:
            if isinstance(node, ast.ClassDef):
                return f", but there is a class {node.name}"
        return ""


def definition_of(name):
    return re.compile(rf"^[ \t]*(async[ \t]+)?def[ \t]+{name}\b", flags=re.M)


def arguments(function):
    given = function.args
    all_of_them = given.posonlyargs + given.args + given.kwonlyargs
    return [argument.arg for argument in all_of_them]


def parts(source):
    """Return how many lines are above each part that begins at the margin, and the part.

    There is only one part if Python can read it all.
    """
    if parses(source):
        return [(0, source)]
    margin = re.finditer(r"^((def|async|class|import|from)\b|@)", source, flags=re.M)
    starts = [match.start() for match in margin]
    found, lines, begin = [], 0, 0
    for end in (*starts, len(source)):
        found.append((lines, source[begin:end]))
        lines += source.count("\n", begin, end)
        begin = end
    return found


def without_prose(part):
    """Return a definition without the text below it, or nothing if what is below is code."""
    lines = part.splitlines()
    margin = [number for number, line in enumerate(lines) if AT_MARGIN.match(line)]
    while margin and not re.match(r"(async\s+)?def\b", lines[margin[0]]):
        margin.pop(0)
    below = margin[1:]
    if not below:
        return ""
    ended = "\n".join(lines[: below[0]])
    if not parses(ended):
        return ""
    for number in below:
        if not re.fullmatch(r"\w+\s*", lines[number]):  # one word may be either
            is_code = HEADER.match(lines[number]) or parses(lines[number])
            return "" if is_code else ended
    return ended


def parses(source):
    try:
        ast.parse(source)
    except UNREADABLE:
        return False
    return True


# ---- Magics, and what else notebooks have that Python has not


def readable(source):
    """Return plain Python, each line where it was: magics and questions do nothing, nor blanks."""
    source = "\n".join(source.replace("\0", " ").splitlines())
    if parses(source):
        return source
    lines = source.split("\n")
    for number, line in enumerate(lines):
        if not BLANK.match(line):
            if line.startswith("%%"):
                lines[number] = ""
            break
    if not parses("\n".join(lines)):
        lines = filled_loops(without_magics(lines))
    return "\n".join(lines)


def without_magics(lines):
    """Have IPython turn magics, shell lines and questions into calls, which do nothing here."""
    from IPython.core.inputtransformer2 import TransformerManager  # it takes a while

    manager = TransformerManager()
    first = 0
    while not lines[first].strip():  # IPython would drop such lines
        first += 1
    blank = lines[:first]
    lines = [line + "\n" for line in lines[first:]]
    with contextlib.suppress(Exception):  # of the tokenizer, where a line is no Python at all
        for transform in manager.cleanup_transforms:
            lines = transform(lines)
        for _ in range(1 + MOST_LINES // len(lines)):
            changed, new = manager.do_one_token_transform(lines)
            if not changed:
                break
            place = 0
            while lines[place] == new[place]:
                place += 1
            joined = len(lines) - len(new)  # to the line that became a call
            lines = new[: place + 1] + ["\n"] * joined + new[place + 1 :]
    return blank + "".join(lines).split("\n")


def filled_loops(lines):
    """Give a loop of which only the comment was left, and then returns, a body."""
    follows = ""  # the next line with code
    for number in range(len(lines) - 1, -1, -1):
        line = lines[number]
        head = re.match(r"([ \t]*)for\b[^#\n]*:(?=[ \t]*(#|$))", line)
        if head and re.match(rf"{head[1]}return\b", follows):
            lines[number] = f"{head[0]} pass{line[head.end() :]}"
        if not BLANK.match(line):
            follows = line
    return lines


# ---- What statements bind


def bound(node):
    """Return the names that a statement binds, as far as this module runs it; * for all."""
    if isinstance(node, ast.Expr):
        return {"*"} if is_setting(node.value) else set()
    if isinstance(node, IMPORTS):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, DEFINITIONS):
        return {node.name} | added_to(node)
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        names = set()
        for target in getattr(node, "targets", None) or [node.target]:
            names |= {inner.id for inner in ast.walk(target) if isinstance(inner, ast.Name)}
        return names
    names = set()
    with contextlib.suppress(RecursionError):  # thousands of elif
        for block in BLOCKS:
            for inner in getattr(node, block, []):
                names |= bound(inner)
    return names


def is_setting(call):
    """Whether this is a call such as ``sys.setrecursionlimit(10_000)``."""
    function = getattr(call, "func", None)
    owner = getattr(getattr(function, "value", None), "id", "")
    return owner in ("sys", "np", "numpy", "torch") and function.attr.startswith("set")


def added_to(node):
    """Return the functions that a definition adds to: f, by @f.register of singledispatch."""
    names = set()
    for decorator in node.decorator_list:
        for inner in ast.walk(decorator):
            if getattr(inner, "attr", "") == "register" and isinstance(inner.value, ast.Name):
                names.add(inner.value.id)
    return names


def calls(node):
    """Whether this calls an answer, ``P, Q = matrix_factorization(...)``, which takes long."""
    if isinstance(node, DEFINITIONS):
        return False
    called = [inner.func for inner in ast.walk(node) if isinstance(inner, ast.Call)]
    return any(getattr(function, "id", "") in EXERCISES for function in called)


def binding(names, statements):
    """Keep the statements that bind these names, and of an if, a try or a with only those in it."""
    kept = []
    for node in statements:
        is_block = isinstance(node, (ast.If, ast.With, ast.Try, ast.ExceptHandler))
        if isinstance(node, ast.ExceptHandler) or names_in(node) & names:
            if is_block:
                kept.append(reduced(node, names))
            elif not calls(node):
                kept.append(node)
    return kept


def names_in(node):
    """Return what a statement binds, found out once."""
    if not hasattr(node, "binds"):
        node.binds = bound(node)
    return node.binds


def reduced(node, names):
    """Return a copy of a statement, with only those statements in it that bind these names."""
    node = copy.copy(node)
    for block in BLOCKS:
        if hasattr(node, block):
            setattr(node, block, binding(names, getattr(node, block)))
    node.body = node.body or [ast.Pass()]
    if isinstance(node, ast.Try) and not node.handlers:
        node.finalbody = node.finalbody or [ast.Pass()]
    return ast.fix_missing_locations(node)


# ---- Running what an answer needs


class Nothing:
    """Stands for what does nothing here, such as IPython's magics."""

    def __call__(self, *args, **kwargs):
        return self

    __getattr__ = __call__


class Scope(dict):
    """The names that an answer needs, as they stood when the notebook called it; its own builtins.

    What counts is what stands up to the end of the answer's cell, or up to a call in it. What is
    missing there may come further down, from the first cell that has it.
    """

    def __init__(self, statements, name):
        self.update(vars(builtins), __name__="__main__", __builtins__=self)
        self.update(get_ipython=Nothing, display=Nothing())
        self.errors, self.flags, self.of_the_sheet = {}, 0, []
        if any(getattr(node, "module", "") == "__future__" for node in statements):
            self.flags = __future__.annotations.compiler_flag
        end = self.end_of(statements, name)
        early, late = statements[:end], statements[end:]
        self.below = {}  # for each name, the first cell further down that has it
        for node in late[::-1]:
            self.below.update(dict.fromkeys(node.binds, node.cell))
        self.known = {"*", *self}.union(*[node.binds for node in early])
        self.bound = self.known.union(self.below)
        firm = [node.binds for node in statements if isinstance(node, DEFINITIONS + IMPORTS)]
        self.given = SHARED.keys() & self.bound.difference(*firm)
        self.update((x, SHARED[x]) for x in self.given)
        self.waiting = self.needed(early, late, name)
        self.lines = [(node.cell, *lines_of(node)) for node in self.waiting]
        while self.waiting:
            self.run(self.waiting[0])

    def end_of(self, statements, name):
        """Return where the answer's cell ends, or where it is called in that cell."""
        own = max(place for place, node in enumerate(statements) if name in node.binds)
        end = own + 1
        while end < len(statements) and statements[end].cell == statements[own].cell:
            if calls(statements[end]):
                break
            end += 1
        return end

    def needed(self, early, late, name):
        """Return the statements that the answer needs, and those that these need."""
        needed, more, found = set(), {name, "*"}, []
        while more:
            needed |= more
            missing = needed - self.known
            found = binding(needed, early)
            for node in late:
                below = {x for x in missing if self.below.get(x) == node.cell}
                found += binding(below, [node])
            used_there = set().union(*map(self.needs, found))
            more = used_there - needed - self.given
        return found

    def __missing__(self, name):
        for node in [node for node in self.waiting if name in names_in(node)]:
            self.run(node)
        if name in self:
            return self[name]
        if name in OF_THE_SHEET and name not in self.bound:
            self.of_the_sheet.append(name)
            exec(OF_THE_SHEET[name], self)
            return self[name]
        raise self.errors.get(name, KeyError(name))

    def compiled(self, node):
        module = ast.Module([node], [])
        return compile(module, node.file, "exec", self.flags, dont_inherit=True)

    def needs(self, node):
        with contextlib.suppress(*UNREADABLE):
            return used(self.compiled(node), {})
        return set()

    def run(self, node):
        self.waiting.remove(node)
        try:
            exec(self.compiled(node), self)
        except (Exception, SystemExit) as error:
            self.errors.update(dict.fromkeys(names_in(node), error))
            if getattr(node, "decorator_list", []):  # such as @njit, where there is no numba
                node.decorator_list = []
                self.waiting.insert(0, node)


def lines_of(node):
    decorators = getattr(node, "decorator_list", [])
    first = min(part.lineno for part in [node, *decorators])
    return first, node.end_lineno


class Bar(Nothing):
    """Stands for tqdm's, where it is not installed: a progress bar changes no number."""

    def __init__(self, iterable=(), *args, **kwargs):
        self.iterable = iterable

    def __iter__(self):
        return iter(self.iterable)

    def __len__(self):
        return len(self.iterable)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


def bar_over_range(*limits, **options):
    return Bar(range(*limits))


class ProgressBars:
    """Finds tqdm, and what it has inside, after everything else."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tqdm":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        module.tqdm = module.tqdm_notebook = Bar
        module.trange = module.tnrange = bar_over_range


# ---- Serving calls


class Server:
    def __init__(self):
        self.cells, self.code = [], []
        self.answer = self.scope = self.line = self.unread = None

    def read(self):
        """Read what lies in this folder, before anything of the student's has run."""
        try:
            self.cells = read_folder(Path.cwd())
        except Settled as settled:
            self.unread = settled  # which is all that there is to say of any exercise
            raise
        modules = Path.cwd().rglob("*.py")
        sys.path += sorted({str(path.parent) for path in modules})  # wherever the notebook looks
        self.code = [number for number, cell in enumerate(self.cells) if cell.is_code]
        cells = [self.cells[number] for number in self.code]
        return {"cells": [(cell.file, cell.place, cell.source) for cell in cells]}

    def define(self, name):
        self.answer = self.scope = None
        sys.modules.pop(PROJECT, None)
        if self.unread:
            raise self.unread
        reading = Reading(self.cells, name)
        if not reading.is_found():
            raise self.settled(reading.fault())
        scope = Scope(reading.statements, name)
        files = {node.file for node in reading.statements}
        if name not in scope:
            error = scope.errors.get(name)
            if not error:
                raise self.settled(reading.fault())
            raise stopped(error, files) from error
        self.scope = scope
        gradient = EXERCISES[name].gradient
        self.answer = Answer(scope[name], gradient, scope, files)
        own = max(node.cell for node in reading.statements if name in node.binds)
        if own in reading.aside:
            text = "In its cell there is also text that Python cannot read."
            self.answer.notes["text in its cell"] = text
        source = []
        for cell, first, last in scope.lines:
            source.append((self.code.index(cell), first, last))
        return {"source": source}

    def settled(self, fault):
        if fault.line:
            cell, line = fault.line
            self.line = (self.code.index(cell), line)
        return Settled(fault.verdict)

    def call(self, R, P, Q, steps, numbers):
        """Return the factors, always with the same random numbers."""
        np.random.seed(0)
        random.seed(0)
        R, P, Q = map(np.array, (R, P, Q))
        return {"factors": self.answer(R, P, Q, steps, *numbers)}

    def reply(self, what, details):
        """Return what one of the above returns, or the verdict that it ends in, with notes."""
        began, self.line = processor_time(), None
        try:
            reply = getattr(self, what)(**details)
        except Settled as settled:
            reply = {"verdict": settled.args[0]}
            self.line = self.line or self.raised_in(settled.__cause__)
        except BaseException as error:
            reply = {"verdict": stopped(error, ()).args[0]}
        if self.line:
            reply["line"] = self.line
        if self.answer:
            reply["notes"] = self.noted()
        return reply | {"cpu": processor_time() - began}

    def raised_in(self, error):
        """Return the last line of the student's that an exception went through."""
        frames = traceback.extract_tb(getattr(error, "__traceback__", None))
        for frame in frames[::-1]:
            cell = re.fullmatch(r"<cell (\d+)>", frame.filename)
            if cell:
                return self.code.index(int(cell[1]) - 1), frame.lineno
        return None

    def noted(self):
        notes = self.answer.notes
        if self.scope.of_the_sheet:
            names = " and ".join(sorted(set(self.scope.of_the_sheet)))
            notes["imports of the sheet"] = f"It does not import {names}: the sheet does."
        if PROJECT in sys.modules:
            notes.update(USES_PROJECT)
        return notes


def processor_time():
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def guard(memory, server):
    """Bound memory and files where the system can; see which files are opened."""
    with contextlib.suppress(ImportError):
        import resource

        limits = {
            resource.RLIMIT_AS: int(memory * 2**30),
            resource.RLIMIT_FSIZE: 2**28,
            resource.RLIMIT_CORE: 0,
        }
        for limit, most in limits.items():
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(limit, (most, most))

    def hook(event, args):
        if event != "open" or not server.answer:
            return
        if "olivetti_py3" in str(args[0]):
            server.answer.notes["loads the faces"] = "It loads the faces by itself."
        elif f"{PROJECT}.py" in str(args[0]):
            server.answer.notes.update(USES_PROJECT)

    sys.addaudithook(hook)


def serve(memory):
    """Answer requests on what were standard input and output; these lead nowhere from now on."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    server = Server()
    guard(memory, server)
    warnings.simplefilter("ignore")
    seed_generators()
    sys.dont_write_bytecode = True
    sys.meta_path.append(ProgressBars())
    for module in ("judge", "caller", "exercises"):
        del sys.modules[module]  # a student may have modules of these names
    sys.modules["__main__"] = type(sys)("__main__")  # where nothing of this file is at hand
    here = sys.path.pop(0)
    sys.path.append(here)  # where the project's module is
    sys.path.insert(0, os.getcwd())
    write(replies, ["ready"])
    while True:
        for pipe in (requests, replies):  # whatever the answer did to them
            os.set_blocking(pipe.fileno(), True)
        line = requests.readline()
        if not line:
            return
        number, what, details = json.loads(line)
        write(replies, [number, server.reply(what, details)])


def seed_generators():
    """Have a generator without a seed give the same numbers at every call."""
    fresh = np.random.default_rng

    def default_rng(seed=None):
        return fresh(0 if seed is None else seed)

    np.random.default_rng = default_rng


def write(stream, message):
    text = json.dumps(message, default=np.ndarray.tolist)
    stream.write(b"\n" + text.encode() + b"\n")
    stream.flush()


if __name__ == "__main__":
    serve(float(sys.argv[1]))
