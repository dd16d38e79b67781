"""Mark what students handed in: ``python tests/marking/mark.py PATH ...`` prints a row for each.

Nothing that students wrote is parsed or run in this process: a process of their own is asked for
numbers (process.py, student.py), and the judge (judge.py) sits here.
"""

import argparse
import difflib
import os
import re
import signal
import sys
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

try:
    import feedback
    import judge
    import process
    import submissions
    from exercises import EXERCISES
    from feedback import Result, cut, sentence
    from judge import Settled, Verdict
    from tqdm import tqdm
except KeyboardInterrupt:  # as NumPy takes a while
    sys.exit(2)

ALL_RIGHT, SOME_NOT, INTERRUPTED, UNWRITTEN, REFUSED = range(5)  # exit status
RIGHT = (judge.CORRECT, judge.NOTED)
KINDS = (*RIGHT, judge.WRONG, "not attempted", "no verdict")
AT_A_TIME = min(4, os.cpu_count() or 2)
DANGER = (
    "students' code can read and change all that you can, these marks and other students' files "
    "too, use the network, and go on when the command has ended"
)


# ---- Options


class Parser(argparse.ArgumentParser):
    """Ends with our own status, and asks what a typo may have meant."""

    def error(self, message):
        for word in re.findall(r"--[\w-]+", message.partition("unrecognized arguments")[2]):
            near = difflib.get_close_matches(word, self._option_string_actions, 1)
            message += f"; did you mean {near[0]}?" if near else ""
        self.print_usage(sys.stderr)
        self.exit(REFUSED, f"{self.prog}: {message}\n")


def at_home(text):
    """Return a path, where ~ is the home folder."""
    return Path(os.path.expanduser(text))


def seconds(text):
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError(text)
    return number


def make_parser():
    parser = Parser(
        prog="mark.py",
        description="Mark what students handed in: prints a row for each student.",
        epilog="Exit status: 0 all is right, 1 some is not, 2 after Ctrl-C, "
        "3 a table or page could not be written, 4 an option or a PATH is wrong.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("paths", metavar="PATH", type=at_home, nargs="+", help="a notebook, a folder or a zip")
    add("--marks", metavar="FILE.csv", type=at_home, help="write the table here")
    add("--feedback", metavar="FOLDER", type=at_home, help="write a page for each student here")
    text = "processor time for each exercise of a student, and how long it may wait (%(default)g)"
    add("--time-limit", metavar="SECONDS", type=seconds, default=90, help=text)
    text = "whose a file is, told by its path: an expression with a group (?P<student>...)"
    add("--student", metavar="REGEX", help=text)
    text = f"mark without a sandbox; then {DANGER}"
    add("--no-sandbox", action="store_true", help=text)
    return parser


def main(words=None):
    """Mark, and return the exit status."""
    parser = make_parser()
    try:
        options = parser.parse_intermixed_args(words)
        with process.scratch_folder() as scratch:
            try:
                marking = Marking(options, scratch)
            except (OSError, ValueError) as error:
                parser.error(sentence(error))
            return marking.run()
    except OSError as error:  # no room even for a scratch folder
        parser.error(sentence(error))
    except KeyboardInterrupt:
        say("stopped: nobody is judged yet")
        return INTERRUPTED


def stop(*_):
    """End all, once, as a closed terminal sends two signals.

    While students are judged nothing is raised, as that could be between any two lines: ``run``
    and the students' processes look at ``stopping``.
    """
    again, process.Student.stopping = process.Student.stopping, True
    if not (again or Marking.judging):
        raise KeyboardInterrupt


# ---- One student


def judged(submission, scratch, time_limit, sandboxed):
    """Return a Result for each exercise; whatever goes wrong is that student's "no verdict"."""
    results, answer = [], None
    try:
        if submission.fault:
            raise Settled(submission.fault)
        answer = process.Student(submission.files, scratch, time_limit, sandboxed)
        for name in EXERCISES:
            results.append(one_exercise(answer, name))
    except (Exception, Settled) as error:
        missing = len(EXERCISES) - len(results)
        results += [Result(plainly(verdict_of(error)))] * missing
    finally:
        if answer:
            answer.close()
    return results


def one_exercise(answer, name):
    try:
        answer.define(name)
        verdict = judge.judge(answer)
    except (Exception, Settled) as error:
        verdict = verdict_of(error)
    line = answer.raised.get(verdict.label)  # of an exception, if that is the verdict
    source = feedback.cut_out(answer.cells or [], answer.source, line)
    return Result(plainly(verdict), source)


def verdict_of(error):
    if isinstance(error, Settled):
        return error.args[0]
    return Verdict("no verdict", "could not be judged", f"{type(error).__name__}: {error}")


def plainly(verdict):
    return verdict._replace(label=sentence(verdict.label, 60), text=sentence(verdict.text))


# ---- All students


class Marking:
    """What is to be judged, and what has been found so far."""

    judging = False

    def __init__(self, options, scratch):
        self.table, self.folder = options.marks, options.feedback
        self.rows, self.older, self.pages = {}, {}, {}
        self.unwritten, self.trouble = {}, ""  # pages, and why
        self.look_for_students(options, scratch)
        self.look_where_to_write(options.paths)
        lacking = "you asked for none" if options.no_sandbox else process.why_no_sandbox(scratch)
        if lacking:
            warning = f"Without a sandbox ({sentence(lacking)}) {DANGER}."
            if not options.no_sandbox:
                way_out = "README.md says how to get one; --no-sandbox goes on all the same."
                raise ValueError(f"{warning} {way_out}")
            say(warning)
        self.judged = partial(
            judged, scratch=scratch, time_limit=options.time_limit, sandboxed=not lacking
        )

    def look_for_students(self, options, scratch):
        for path in options.paths:
            if not path.exists():
                raise ValueError(f"{path}: expected a notebook, a folder or a zip; there is none")
        found, self.left = submissions.find(options.paths, scratch, options.student)
        if not found:
            raise ValueError("expected a notebook, or a folder or zip with some, but found none")
        names = feedback.distinct(sentence(submission.student) for submission in found)
        self.students = [one._replace(student=name) for one, name in zip(found, names)]

    def look_where_to_write(self, paths):
        if self.table:
            self.table = self.table.resolve()  # it may be a link
            self.older = feedback.read_table(self.table)
            self.write()
        if self.folder:
            for path in paths:
                if path.resolve() in self.folder.resolve().parents:
                    raise ValueError(f"{self.folder}: expected a folder that is not in {path}")
            self.folder.mkdir(parents=True, exist_ok=True)
            self.pages = feedback.page_names([submission.student for submission in self.students])

    def run(self):
        """Have all judged, a few at a time, print and keep each row; return the exit status."""
        Marking.judging = True
        pool = ThreadPoolExecutor(AT_A_TIME)
        waiting = {pool.submit(self.judged, student): student.student for student in self.students}
        self.progress = tqdm(total=len(waiting), unit=" students", disable=None, leave=False)
        while waiting and not process.Student.stopping:
            # Not for ever: a signal that comes just before the wait begins does not end it
            done, _ = wait(waiting, process.POLL, FIRST_COMPLETED)
            for future in done:
                if process.Student.stopping:
                    break  # it may have ended for that
                self.keep(waiting.pop(future), future.result())
        pool.shutdown(cancel_futures=True)
        self.progress.close()
        return self.finish(interrupted=bool(waiting))

    def keep(self, name, results):
        self.rows[name] = [name]
        for result in results:
            self.rows[name] += result.verdict[:3]
        self.progress.update()
        verdicts = [": ".join(filter(None, result.verdict[:2])) for result in results]
        say(f"{len(self.rows)}/{len(self.students)}  {cut(name)}  " + "  |  ".join(verdicts))
        if self.folder:
            self.unwritten[name] = results
        self.save()

    def save(self):
        """Write the table and the pages, or what is left of them where the disk was full."""
        self.trouble = ""
        self.try_to(self.write)
        for name, results in list(self.unwritten.items()):
            path = self.folder / self.pages[name]
            if self.try_to(feedback.write_page, path, name, results):
                del self.unwritten[name]

    def try_to(self, write, *details):
        try:
            write(*details)
            return True
        except OSError as error:
            self.trouble = sentence(error)
            return False

    def write(self):
        """Write the rows so far, and an older table's rows of students who are not judged yet."""
        if self.table:
            rows = self.older | self.rows
            feedback.write_table(self.table, [rows[name] for name in sorted(rows)])

    def finish(self, interrupted):
        """Say what it adds up to."""
        if not interrupted:
            self.older = {}
        self.save()
        for number, name in enumerate(EXERCISES):
            counts = Counter(row[1 + 3 * number] for row in self.rows.values())
            some = [f"{counts[kind]} {kind}" for kind in KINDS if counts[kind]]
            say(f"exercise {number + 1}, {name}: {'; '.join(some) or 'none'}")
        if self.left:
            files = "1 file" if len(self.left) == 1 else f"{len(self.left)} files"
            say(f"nobody's: {files} ({sentence(', '.join(self.left), 200)})")
        if self.trouble:
            say(f"something could not be written: {self.trouble}")
        if self.table:
            say(f"the table: {self.table}")
        if interrupted:
            say(f"stopped: {len(self.rows)} of {len(self.students)} are judged, and kept")
            return INTERRUPTED
        if self.trouble:
            return UNWRITTEN
        kinds = {kind for row in self.rows.values() for kind in row[1::3]}
        return ALL_RIGHT if kinds <= set(RIGHT) else SOME_NOT


def say(text):
    """Print a line, above the progress bar if there is one; a closed terminal is no matter."""
    try:
        tqdm.write(text)
        sys.stdout.flush()
    except OSError:
        sys.stdout = sys.stderr = open(os.devnull, "w")


if __name__ == "__main__":
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Ctrl-C, kill, a closed terminal
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)
    sys.stdout.reconfigure(errors="replace")  # a name that the terminal has no letters for
    sys.exit(main())
