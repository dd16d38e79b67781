"""Define a student's answer and serve calls of it, in a process of its own.

What is parsed, imported and run here is the student's, so nothing that this process says is
taken for a verdict on the numbers. It reads requests and writes replies, a line of JSON each.
"""

import __future__

import ast
import base64
import builtins
import contextlib
import copy
import inspect
import json
import linecache
import os
import random
import re
import symtable
import sys
import warnings

import numpy as np
from checks import check_matrix_factorization, check_multiplicative_update, is_blank, place_of

CHECKS = {
    "matrix_factorization": check_matrix_factorization,
    "mf_multiplicative_update": check_multiplicative_update,
}
SHARED = {"N": 100, "M": 256, "K": 2}  # the notebook's names, of which the caller knows the values
SHARED |= {"R": np.ones((100, 256)), "P": np.ones((100, 2)), "Q": np.ones((256, 2))}
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)
BLOCKS = ("body", "handlers", "orelse", "finalbody")


class Fault(Exception):
    """Why there is nothing to call: kind, label and text of a verdict."""


# ---- From cells to statements


def read(cells, name):
    """Return the statements of all cells, and what to say if none of them is the answer."""
    statements = []
    faults = [Fault("no verdict", "not found", f"no cell defines a function {name}.")]
    for number, cell in enumerate(cells):
        file = f"<cell {number + 1}>"
        source = readable(cell)
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        for part in parts(source):
            try:
                nodes = ast.parse(part).body
            except (SyntaxError, ValueError) as error:
                if re.search(rf"^\s*(async\s+)?def\s+{name}\b", part, re.M):
                    line = getattr(error, "lineno", 0)
                    label = f"{type(error).__name__}, line {line} of the cell"
                    text = f"Python cannot read it: {getattr(error, 'msg', error)}, in line {line}."
                    faults.append(Fault("wrong", label, text))
                continue
            for node in nodes:
                node.cell, node.file = number, file
                if name in bound(node) and blank(node):
                    text = "there is nothing to check yet."  # which counts less than an attempt
                    faults.insert(1, Fault("not attempted", "", text))
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


def blank(node):
    if isinstance(node, ast.Assign):
        return isinstance(node.value, ast.Constant) and node.value.value is ...
    return is_blank(ast.unparse(node))


# ---- The statements that an answer needs


def select(statements, name):
    """Return what binds this name and, transitively, what that needs, as it stood when called.

    What counts is what stands up to the end of the answer's cell, or up to a call in it. What is
    missing there may come further down, from the first cell that has it.
    """
    own = max(place for place, node in enumerate(statements) if name in bound(node))
    end = own + 1
    while end < len(statements) and statements[end].cell == statements[own].cell:
        if calls(statements[end]):
            break
        end += 1
    early, late = statements[:end], statements[end:]
    known = set().union(*map(bound, early)) | {*dir(builtins)}
    needed = {name}
    while True:
        cells = {}  # for what is missing: that of its first definition further down
        for node in late:
            for missing in bound(node) & needed - known:
                cells.setdefault(missing, node.cell)
        chosen = reduced(early, needed)
        for missing, cell in cells.items():
            chosen += reduced([node for node in late if node.cell == cell], {missing})
        more = loaded(chosen) - needed - SHARED.keys()
        if not more:
            return chosen
        needed |= more


def reduced(statements, needed):
    """Keep imports, definitions and assignments of what is needed, also under if, try and with."""
    chosen = []
    for node in statements:
        if isinstance(node, (ast.If, ast.With, ast.Try, ast.ExceptHandler)):
            node = copy.copy(node)
            for block in BLOCKS:
                if hasattr(node, block):
                    setattr(node, block, reduced(getattr(node, block), needed))
            if not bound(node) and not isinstance(node, ast.ExceptHandler):
                continue
            node.body = node.body or [ast.Pass()]
            if isinstance(node, ast.Try) and not node.handlers:
                node.finalbody = node.finalbody or [ast.Pass()]
            chosen.append(ast.fix_missing_locations(node))
        elif bound(node) & (needed | {"*"}) and not calls(node):
            chosen.append(node)
    return chosen


def bound(node):
    """Return the names that a statement binds, as far as this module runs it."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, DEFINITIONS):
        return {node.name}
    if isinstance(node, ASSIGNMENTS):
        targets = getattr(node, "targets", None) or [node.target]
        return {x.id for target in targets for x in ast.walk(target) if isinstance(x, ast.Name)}
    inner = [statement for block in BLOCKS for statement in getattr(node, block, [])]
    return set().union(*map(bound, inner))


def calls(node):
    """Whether this calls an answer, ``P, Q = matrix_factorization(...)``, which takes long."""
    return not isinstance(node, DEFINITIONS) and any(
        isinstance(x, ast.Call) and isinstance(x.func, ast.Name) and x.func.id in CHECKS
        for x in ast.walk(node)
    )


def loaded(statements):
    """Return the global names that these statements use, at once or in their functions."""
    top = symtable.symtable(ast.unparse(ast.Module(statements, [])), "answer", "exec")
    names = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()}
    inner = top.get_children()
    while inner:
        table = inner.pop()
        inner += table.get_children()
        names |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
    return names


# ---- Running them


class Nothing:
    """Stands for IPython, whose magics do nothing here; with an error, for what is missing."""

    def __init__(self, error=None):
        self.error = error

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self() or self

    def __call__(self, *args, **kwargs):
        if self.error:
            raise self.error
        return self

    __getitem__ = __iter__ = __enter__ = __call__


class Faces(dict):
    """What stands for the photographs, which are not fetched while marking."""

    fetched = False
    __getattr__ = dict.__getitem__

    @classmethod
    def fetch(cls, *args, **kwargs):
        cls.fetched = True
        images = np.random.RandomState(0).rand(400, 64, 64).astype("float32")
        data = images.reshape(400, -1)
        return cls(images=images, data=data, target=np.arange(400) // 10, DESCR="", name="none")


def without_faces(real_import):
    def importing(*args, **kwargs):
        module = real_import(*args, **kwargs)
        for name in ("fetch_olivetti_faces", "fetch_faces"):
            for place in ("sklearn.datasets", "mf_solutions"):
                if hasattr(sys.modules.get(place), name):
                    setattr(sys.modules[place], name, Faces.fetch)
        return module

    return importing


def define(statements, flags, shared):
    """Run each statement, those that fail once more when the others are done.

    Returns the names and, for what could not be done, the errors.
    """
    scope = {"__name__": "__main__", "get_ipython": Nothing, "display": Nothing()}
    scope.update((name, SHARED[name]) for name in shared)
    errors, latest = {}, {}
    todo = list(enumerate(statements))
    while todo:
        failed = []
        for place, node in todo:
            names = bound(node)
            if any(latest.get(name, -1) > place for name in names):
                continue  # defined again further down, and that worked
            try:
                exec(compile(ast.Module([node], []), node.file, "exec", flags, True), scope)
            except (Exception, SystemExit) as error:
                errors.update(dict.fromkeys(names, error))
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    scope.update({name: Nothing(error) for name in names})  # perhaps not needed
                else:
                    failed.append((place, node))
            else:
                latest.update(dict.fromkeys(names, place))
        if len(failed) == len(todo):
            decorated = [node for _, node in failed if getattr(node, "decorator_list", [])]
            if not decorated:
                break
            for node in decorated:  # such as @njit, where there is no numba
                node.decorator_list = []
        todo = failed
    for name in errors.keys() - scope.keys():
        scope[name] = Nothing(errors[name])
    return scope, errors


def source_of(node):
    lines = linecache.getlines(node.file)
    first = min(x.lineno for x in [node, *getattr(node, "decorator_list", [])])
    return "".join(lines[first - 1 : node.end_lineno]).rstrip()


# ---- Serving calls


def undefined(error):
    if isinstance(error, ImportError):
        text = f"it needs {error.name}, which is not installed here."
        return Fault("no verdict", f"needs {error.name}", text)
    label = type(error).__name__
    text = f"it cannot be defined: {label}: {error}"
    return error if isinstance(error, Fault) else Fault("wrong", label, text)


class Server:
    def define(self, name, cells):
        """Define the answer; return what there is to know about it before it is called."""
        statements, fault = read(cells, name)
        if not any(name in bound(node) for node in statements):
            raise fault
        flags = 0
        if any(isinstance(x, ast.ImportFrom) and x.module == "__future__" for x in statements):
            flags = __future__.annotations.compiler_flag
        chosen = select(statements, name)
        self.shared = SHARED.keys() & loaded(chosen) & set().union(*map(bound, statements))
        scope, errors = define(chosen, flags, self.shared)
        if name not in scope or isinstance(scope[name], Nothing):
            raise undefined(errors.get(name, fault))
        if not callable(scope[name]):
            raise Fault("wrong", "not a function", f"{name} is not a function.")
        self.f, self.scope, self.files = scope[name], scope, {node.file for node in chosen}
        Faces.fetched = False
        parameters = None
        with contextlib.suppress(TypeError, ValueError):
            known = inspect.signature(self.f).parameters.values()
            parameters = [[x.name, int(x.kind), *plain(x.default)] for x in known]
        return {
            "parameters": parameters,
            "shared": sorted(self.shared),
            "source": "\n\n".join(map(source_of, chosen)),
        }

    def call(self, args, kwargs, shared):
        """Call the answer, always with the same random numbers; return what came of it."""
        args, kwargs = [decoded(x) for x in args], {k: decoded(v) for k, v in kwargs.items()}
        arrays = [x for x in [*args, *kwargs.values()] if isinstance(x, np.ndarray)]
        before = [x.copy() for x in arrays]
        self.scope.update(
            (x, decoded(y) if y is not None else SHARED[x]) for x, y in shared.items()
        )
        np.random.seed(0)
        random.seed(0)
        try:
            result = self.f(*args, **kwargs)
        except BaseException as error:
            place = place_of(error, *self.files)
            reply = {"error": [type(error).__name__, str(error)[:500], place]}
            if isinstance(error, ImportError):
                reply["module"] = error.name or str(error)[:100]
            return reply | {"fetched": Faces.fetched}
        changed = [not np.array_equal(x, y) for x, y in zip(arrays, before)]
        several = isinstance(result, (tuple, list)) or getattr(result, "ndim", 0) == 3
        factors = [encoded(x) for x in result] if several else None
        kind = type(result).__name__
        return {"kind": kind, "factors": factors, "changed": changed, "fetched": Faces.fetched}


def plain(default):
    if default is inspect.Parameter.empty:
        return []
    return [default if isinstance(default, (int, float, str, type(None))) else repr(default)[:99]]


def encoded(value):
    """Return a matrix as its shape and bytes, numbers as they are, else the name of the type."""
    if value is None or type(value) in (int, float):
        return value
    try:
        x = np.array(value.detach() if hasattr(value, "detach") else value, float)
        data = base64.b64encode(np.ascontiguousarray(x, "<f8").tobytes()).decode()
    except Exception:
        return type(value).__name__
    return {"shape": x.shape, "data": data, "list": isinstance(value, list)}


def decoded(value):
    if not isinstance(value, dict):
        return value
    return np.frombuffer(base64.b64decode(value["data"]), "<f8").reshape(value["shape"]).copy()


def limit(memory):
    """Bound memory, files and processes where the system can, and refuse the network."""
    with contextlib.suppress(ImportError):
        import resource

        for name, most in dict(AS=int(memory * 2**30), FSIZE=2**28, CORE=0, NPROC=2000).items():
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))

    def refuse(event, args):
        if event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto"):
            raise OSError("there is no network while marking")

    sys.addaudithook(refuse)


def serve(memory, root):
    """Answer requests on what were standard input and output; these lead nowhere from now on."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    limit(memory)
    warnings.simplefilter("ignore")
    builtins.__import__ = without_faces(builtins.__import__)
    fresh = np.random.default_rng
    np.random.default_rng = lambda seed=0, *rest: fresh(0 if seed is None else seed, *rest)
    sys.dont_write_bytecode = True
    del sys.modules["checks"]
    sys.modules["__main__"] = type(sys)("__main__")  # where nothing of this file is at hand
    sys.path[:] = [os.getcwd(), *sys.path[1:], root]
    server = Server()
    while True:
        for pipe in (requests, replies):  # whatever the answer did to them
            os.set_blocking(pipe.fileno(), True)
        line = requests.readline()
        if not line:
            return
        number, what, details = json.loads(line)
        try:
            reply = getattr(server, what)(**details)
        except Fault as fault:
            reply = {"fault": fault.args}
        replies.write(b"\n" + json.dumps([number, reply]).encode() + b"\n")
        replies.flush()


if __name__ == "__main__":
    serve(float(sys.argv[1]), sys.argv[2])
