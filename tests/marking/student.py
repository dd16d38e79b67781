"""Find a student's answer in a notebook's cells and serve calls of it, in its own process.

What is parsed, imported and run here is the student's, so nothing that this process says is taken
for a verdict on the numbers. It reads requests and writes replies, a line of JSON each.
"""

import __future__

import ast
import builtins
import contextlib
import copy
import json
import linecache
import os
import random
import re
import sys
import warnings

import numpy as np
from caller import NOT_ATTEMPTED, Answer, stopped, used
from exercises import EXERCISES, is_blank, is_idle
from judge import Settled, Verdict

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
IMPORTS = (ast.Import, ast.ImportFrom)
BLOCKS = ("body", "handlers", "orelse", "finalbody")
SHARED = {"N": 100, "M": 256, "K": 2, "R": np.ones((100, 256))}  # which the caller changes
SHARED |= {"P": np.ones((100, 2)), "Q": np.ones((256, 2))}


# ---- From cells to statements


def read(cells, name):
    """Return the statements of all cells, and what to say if none of them is the answer."""
    statements, faults = [], [("no verdict", "not found", f"no cell defines a function {name}.")]
    for number, cell in enumerate(cells):
        file, source = f"<cell {number + 1}>", readable(cell)
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        for part in parts(source):
            try:
                nodes = ast.parse(part).body
            except (SyntaxError, ValueError) as error:
                if re.search(rf"^\s*(async\s+)?def\s+{name}\b", part, re.M):
                    line = f"line {getattr(error, 'lineno', 0)} of the cell"
                    text = f"Python cannot read it: {getattr(error, 'msg', error)}, in {line}."
                    faults.append(("wrong", f"{type(error).__name__}, {line}", text))
                continue
            for node in nodes:
                node.cell, node.file = number, file
                if name in bound(node) and (is_blank(node) or is_idle(node)):
                    faults.insert(1, NOT_ATTEMPTED)  # which counts less than an attempt
                else:
                    statements.append(node)
    return statements, faults[-1]


def parts(source):
    """Return the source; if Python cannot read it, what begins at the margin, each on its line."""
    try:
        ast.parse(source)
        return [source]
    except (SyntaxError, ValueError):
        starts = [x.start() for x in re.finditer(r"^(def|class|import|from|@)\b", source, re.M)]
        ends = [*starts, len(source)]
        return ["\n" * source[:a].count("\n") + source[a:b] for a, b in zip([0, *starts], ends)]


def readable(source):
    """Return plain Python: magics, shell lines and questions do nothing, nor a blank loop."""
    source = "\n".join(source.replace("\0", " ").splitlines())
    with contextlib.suppress(SyntaxError, ValueError):
        ast.parse(source)
        return source
    source = re.sub(r"\A((?:[ \t]*(?:#.*)?\n)*)%%.*", r"\1", source)
    source = re.sub(r"^([ \t]*)([%!].*|.*\?)$", r"\1pass", source, flags=re.M)
    source = re.sub(r"^([ \t]*\w+\s*=)\s*[!%].*", r"\1 None", source, flags=re.M)
    margin = re.match(r"(?:[ \t]*\n)*([ \t]*)", source)[1]
    source = re.sub(rf"^{margin}", "", source, flags=re.M)
    comments_only = r"^([ \t]*)(for\b.*:)(?=[ \t]*(#.*)?(\n[ \t]*(#.*)?)*\n\1return\b)"
    return re.sub(comments_only, r"\1\2 pass", source, flags=re.M)


def bound(node):
    """Return the names that a statement binds, as far as this module runs it; * for all."""
    if isinstance(node, ast.Expr):  # such as sys.setrecursionlimit(10_000)
        return {"*"} if re.match(r"(sys|np|numpy|torch)\.set\w+\(", ast.unparse(node)) else set()
    if isinstance(node, IMPORTS):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, DEFINITIONS):  # and what it adds to: f, by @f.register of singledispatch
        decorators = " ".join(map(ast.unparse, node.decorator_list))
        return {node.name, *re.findall(r"(\w+)\.register\b", decorators)}
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        targets = getattr(node, "targets", None) or [node.target]
        return {x.id for target in targets for x in ast.walk(target) if isinstance(x, ast.Name)}
    return set().union(*(bound(x) for block in BLOCKS for x in getattr(node, block, [])))


def calls(node):
    """Whether this calls an answer, ``P, Q = matrix_factorization(...)``, which takes long."""
    names = (getattr(x.func, "id", "") for x in ast.walk(node) if isinstance(x, ast.Call))
    return not isinstance(node, DEFINITIONS) and not EXERCISES.keys().isdisjoint(names)


def binding(names, statements):
    """Keep the statements that bind these names, and of an if, a try or a with only those in it."""
    kept = []
    for node in statements:
        if isinstance(node, (ast.If, ast.With, ast.Try, ast.ExceptHandler)):
            if not (bound(node) & names or isinstance(node, ast.ExceptHandler)):
                continue
            node = copy.copy(node)
            for block in BLOCKS:
                if hasattr(node, block):
                    setattr(node, block, binding(names, getattr(node, block)))
            node.body = node.body or [ast.Pass()]
            if isinstance(node, ast.Try) and not node.handlers:
                node.finalbody = node.finalbody or [ast.Pass()]
            kept.append(ast.fix_missing_locations(node))
        elif bound(node) & names and not calls(node):
            kept.append(node)
    return kept


# ---- Running what an answer needs


class Nothing:
    """Stands for IPython, whose magics do nothing here."""

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
        own = max(place for place, node in enumerate(statements) if name in bound(node))
        end = own + 1
        while end < len(statements) and statements[end].cell == statements[own].cell:
            if calls(statements[end]):
                break
            end += 1
        early, late, cells = statements[:end], statements[end:], {}
        for node in late[::-1]:
            cells.update(dict.fromkeys(bound(node), node.cell))
        known = {"*"}.union(self, *map(bound, early))
        fixed = (bound(x) for x in statements if isinstance(x, DEFINITIONS + IMPORTS))
        given = SHARED.keys() & set().union(cells, known).difference(*fixed)
        self.update((x, SHARED[x]) for x in given)
        self.errors, self.flags, needed, more = {}, 0, set(), {name, "*"}
        if any(getattr(node, "module", "") == "__future__" for node in statements):
            self.flags = __future__.annotations.compiler_flag
        while more:
            needed |= more
            self.waiting = binding(needed, early)
            for node in late:
                names = {x for x in needed - known if cells.get(x) == node.cell}
                self.waiting += binding(names, [node])
            more = set().union(*map(self.needs, self.waiting)) - needed - given
        self.source = "\n\n".join(map(source_of, self.waiting))
        while self.waiting:
            self.run(self.waiting[0])

    def __missing__(self, name):
        for node in [node for node in self.waiting if name in bound(node)]:
            self.run(node)
        if name in self:
            return self[name]
        raise self.errors.get(name, KeyError(name))

    def compiled(self, node):
        return compile(ast.Module([node], []), node.file, "exec", self.flags, True)

    def needs(self, node):
        with contextlib.suppress(SyntaxError):
            return used(self.compiled(node), {})
        return set()

    def run(self, node):
        self.waiting.remove(node)
        try:
            exec(self.compiled(node), self)
        except (Exception, SystemExit) as error:
            self.errors.update(dict.fromkeys(bound(node), error))
            if getattr(node, "decorator_list", []):  # such as @njit, where there is no numba
                node.decorator_list = []
                self.waiting.insert(0, node)


def source_of(node):
    lines = linecache.getlines(node.file)
    first = min(x.lineno for x in [node, *getattr(node, "decorator_list", [])])
    return "".join(lines[first - 1 : node.end_lineno]).rstrip()


# ---- Serving calls


class Server:
    def __init__(self):
        self.answer = self.scope = None

    def define(self, name, cells):
        self.answer, (statements, fault) = None, read(cells, name)
        if not any(name in bound(node) for node in statements):
            raise Settled(Verdict(*fault))
        self.scope, files = Scope(statements, name), {node.file for node in statements}
        if name not in self.scope:
            error = self.scope.errors.get(name)
            raise stopped(error, files) if error else Settled(Verdict(*fault))
        self.answer = Answer(self.scope[name], EXERCISES[name].gradient, self.scope, files)
        return {}

    def call(self, R, P, Q, steps, numbers):
        """Return the factors, always with the same random numbers."""
        np.random.seed(0)
        random.seed(0)
        return {"factors": self.answer(*map(np.array, (R, P, Q)), steps, *numbers)}

    def reply(self, what, details):
        try:
            reply = getattr(self, what)(**details)
        except Settled as settled:
            reply = {"verdict": settled.args[0]}
        except BaseException as error:
            reply = {"verdict": stopped(error, ()).args[0]}
        more = {"notes": self.answer.notes, "source": self.scope.source} if self.answer else {}
        return reply | more


def guard(memory, server):
    """Bound memory, files and processes where the system can; refuse the network, see the faces."""
    with contextlib.suppress(ImportError):
        import resource

        for name, most in dict(AS=int(memory * 2**30), FSIZE=2**28, CORE=0, NPROC=2000).items():
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))

    def hook(event, args):
        if event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto"):
            raise OSError("there is no network while marking")
        if event == "open" and "olivetti_py3" in str(args[0]) and server.answer:
            server.answer.notes["loads the faces"] = "It loads the faces by itself."

    sys.addaudithook(hook)


def serve(memory, root):
    """Answer requests on what were standard input and output; these lead nowhere from now on."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    server = Server()
    guard(memory, server)
    warnings.simplefilter("ignore")
    fresh = np.random.default_rng
    np.random.default_rng = lambda seed=0, *rest: fresh(0 if seed is None else seed, *rest)
    sys.dont_write_bytecode = True
    for module in ("judge", "caller", "exercises"):
        del sys.modules[module]  # a student may have modules of these names
    sys.modules["__main__"] = type(sys)("__main__")  # where nothing of this file is at hand
    sys.path[:] = [os.getcwd(), *sys.path[1:], root]
    while True:
        for pipe in (requests, replies):  # whatever the answer did to them
            os.set_blocking(pipe.fileno(), True)
        line = requests.readline()
        if not line:
            return
        number, what, details = json.loads(line)
        reply = json.dumps([number, server.reply(what, details)], default=np.ndarray.tolist)
        replies.write(b"\n" + reply.encode() + b"\n")
        replies.flush()


if __name__ == "__main__":
    serve(float(sys.argv[1]), sys.argv[2])
