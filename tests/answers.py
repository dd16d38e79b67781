"""Find a student's answer by its name, define it with what it needs, and have it judged.

This runs in the answer's own kernel: to parse what students hand in can end a process, too.
"""

import ast
import contextlib
import copy
import os
import re
import symtable
import warnings

CHECKS = {
    "matrix_factorization": "check_matrix_factorization",
    "mf_multiplicative_update": "check_multiplicative_update",
}
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)
BLOCKS = ("body", "handlers", "orelse", "finalbody")


def run(name, cells, memory, mime):
    """Judge one answer and publish the verdict where no print can be mistaken for it."""
    from IPython.display import display

    limit_memory(memory)
    import checks  # noqa: F401  # before the student's code, which may rename modules

    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            verdict = judged(name, cells)
    display({mime: list(verdict)}, raw=True)


def limit_memory(gigabytes):
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows and macOS have no limit
        import resource

        size = int(gigabytes * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def judged(name, cells):
    """Return the verdict on the last answer of this name as (kind, label, text)."""
    import checks as mf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes and the like are not asked about
        statements, faults = read(cells, name)
        chosen = select(statements, name)
    if not any(name in bound(node) for node in chosen):
        return faults[-1] if faults else not_found(name)
    scope, errors = define(chosen)
    if name not in scope:
        return raised(errors[name]) if name in errors else not_found(name)
    try:
        return getattr(mf, CHECKS[name])(scope[name])
    except mf.WrongAnswer as wrong:
        return wrong.verdict
    except SystemExit:
        return "wrong", "SystemExit", "the function ends the whole program, for example by sys.exit"


# --------------------------------------------------------------------------
# Verdicts on what cannot be run
# --------------------------------------------------------------------------

NOT_ATTEMPTED = ("not attempted", "", "the loop is as empty as in the handout")


def not_found(name):
    return "no verdict", "not found", f"expected a function {name}, but no cell defines one"


def unparsable(error):
    label = f"{type(error).__name__}, line {error.lineno} of the cell"
    return "wrong", label, f"Python cannot read the answer: {error.msg} in line {error.lineno}"


def raised(error):
    label = type(error).__name__
    return "wrong", label, f"the function cannot be defined: {label}: {error}"


# --------------------------------------------------------------------------
# From cells to statements
# --------------------------------------------------------------------------


def read(cells, name):
    """Return the statements of all cells, and verdicts on answers that are blank or broken."""
    statements, faults = [], []
    for source in cells:
        try:
            for node in parsed(source):
                if not blank(node):
                    statements.append(node)
                elif node.name == name:
                    faults.insert(0, NOT_ATTEMPTED)  # which counts for less than an attempt
        except SyntaxError as error:
            if re.search(rf"^\s*(async\s+)?def\s+{name}\b", source, re.M):
                faults.append(unparsable(error))
    return statements, faults


def parsed(source):
    """Return the statements of a cell, where the handout's blank loop counts as one."""
    source = without_magics(source)
    try:
        return ast.parse(source).body
    except SyntaxError as error:
        mended = ast.parse(with_pass(source, error)).body
        idle = [node for node in mended if isinstance(node, DEFINITIONS) and has_idle_loop(node)]
        if not all(blank(node) for node in idle):
            raise
        return mended


def with_pass(source, error):
    """Put ``pass`` into each loop that has only a comment in it, up to the ``return``."""
    while True:
        lines = source.splitlines()
        try:
            ast.parse(source)
            return source
        except IndentationError as trouble:
            loop = re.search(r"after 'for' statement on line (\d+)", trouble.msg)
            if not loop or not re.match(r"\s*return\b", lines[trouble.lineno - 1]):
                raise error from None
            lines[int(loop[1]) - 1] += " pass"
        except SyntaxError:
            raise error from None
        source = "\n".join(lines)


def without_magics(source):
    """Return plain Python: magics, shell lines and questions become calls of ``get_ipython``."""
    from IPython.core.inputtransformer2 import TransformerManager

    source = "\n".join(source.replace("\0", " ").splitlines())
    source = re.sub(r"\A((?:[ \t]*(?:#.*)?\n)*)%%.*", r"\1", source)
    source = re.sub(r"^([ \t]*\w+\s*=)\s*!.*", r"\1 None", source, flags=re.M)  # for IPython 7
    blank_lines = re.match(r"(?:[ \t]*\n)*", source)[0].count("\n")  # which IPython takes away
    return "\n" * blank_lines + TransformerManager().transform_cell(source)


def blank(node):
    """Whether this is the handout's skeleton of exercise 1: a loop in which nothing is done."""
    if not isinstance(node, ast.FunctionDef) or not has_idle_loop(node):
        return False
    rest = [s for s in node.body if not isinstance(s, (ast.For, ast.Return)) and not idle(s)]
    return all(ast.unparse(statement) == "Q = Q.T" for statement in rest)


def has_idle_loop(node):
    return any(isinstance(s, ast.For) and all(map(idle, s.body)) for s in ast.walk(node))


def idle(node):
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


# --------------------------------------------------------------------------
# The statements that an answer needs
# --------------------------------------------------------------------------


def select(statements, name):
    """Return what binds this name and, transitively, the names that this needs."""
    needed = {name}
    while True:
        chosen = reduced(statements, needed)
        more = loaded(chosen) - needed
        if not more:
            return chosen
        needed |= more


def reduced(statements, needed):
    """Keep imports, definitions and assignments of what is needed, also under if, try and with."""
    chosen = []
    for node in statements:
        if isinstance(node, (ast.If, ast.With, ast.Try, getattr(ast, "TryStar", ast.Try))):
            node = copy.copy(node)
            for block in BLOCKS:
                if hasattr(node, block):
                    setattr(node, block, reduced(getattr(node, block), needed))
            if not bound(node):
                continue
            node.body = node.body or [ast.Pass()]
            if isinstance(node, ast.Try) and not node.handlers:
                node.finalbody = node.finalbody or [ast.Pass()]
            chosen.append(ast.fix_missing_locations(node))
        elif isinstance(node, ast.ExceptHandler):
            node = copy.copy(node)
            node.body = reduced(node.body, needed) or [ast.Pass()]
            chosen.append(ast.fix_missing_locations(node))
        elif bound(node) & (needed | {"*"}) and not calls_an_answer(node):
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


def calls_an_answer(node):
    """Whether this is a long run, such as ``P, Q = matrix_factorization(...)``, maybe in a loop."""
    return isinstance(node, (*ASSIGNMENTS, ast.For, ast.While)) and any(
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


# --------------------------------------------------------------------------
# Running them
# --------------------------------------------------------------------------


class NoMagic:
    """Stands for IPython: every magic and every shell line does nothing."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


def define(statements):
    """Run each statement, those that fail once more when the others are done.

    Returns the names and, for what could not be done, the errors.
    """
    scope = {"__name__": "__main__", "get_ipython": NoMagic}
    errors, latest = {}, {}
    todo = list(enumerate(statements))
    while todo:
        failed = []
        for place, node in todo:
            names = bound(node)
            if any(latest.get(name, -1) > place for name in names):
                continue  # defined again further down, and that worked
            try:
                exec(compile(ast.Module([node], []), "<answer>", "exec"), scope)
            except (Exception, SystemExit) as error:
                failed.append((place, node))
                errors.update(dict.fromkeys(names, error))
            else:
                latest.update(dict.fromkeys(names, place))
        if len(failed) == len(todo):
            decorated = [node for _, node in failed if getattr(node, "decorator_list", [])]
            if not decorated:
                break
            for node in decorated:  # such as @njit, where there is no numba
                node.decorator_list = []
        todo = failed
    return scope, errors
