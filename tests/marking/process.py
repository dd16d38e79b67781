"""Run an answer in a sandbox and a process of its own, and ask it for numbers.

How this file, submissions.py and student.py meet (to be read by whoever changes one of them):

* ``submissions.find(paths, scratch, pattern)`` returns ``(students, left)``: a list of
  ``Submission(student, files, fault)``, sorted by ``student`` (the name as the platform has it);
  ``files`` are a dictionary from the names that the files should have beside the answer
  (``"week5.ipynb"``, ``"helpers.py"``, ``"data/faces.csv"``) to the paths where they lie now (what
  was in a zip lies in the folder ``scratch``); ``fault`` is None or a Verdict, where there is nothing
  to judge. ``left`` are the names of files that are nobody's. Nothing is parsed there.
* The files are put beside the answer, under those names, in the folder where student.py starts.
* ``python student.py`` writes ``["ready"]``. From then on it answers ``[number, what, details]`` by
  ``[number, reply]``, where ``reply`` is a dictionary.
* ``[1, "read", {}]`` comes first, before any code of the student's has run: it reads the notebooks
  and modules in its folder and replies ``{"cells": [[file, cell, source], ...]}`` (the place of the
  cell in its file, from 1) in the order in which they are looked at, or ``{"verdict": [...]}``.
  It keeps them.
* ``[n, "define", {"name": name}]`` replies with ``{"source": [[i, first, last], ...]}``, the lines
  (from 1) of ``cells[i]`` that are judged, so that the page shows what was handed in; with
  ``"line": [i, line]`` where an exception or a SyntaxError has one.
* ``[n, "call", {"R": ..., "P": ..., "Q": ..., "steps": ..., "numbers": [...]}]`` replies with
  ``{"factors": [P, Q]}``, or with ``{"verdict": [kind, label, text], "line": [i, line]}``.
* Every reply may have ``"notes"``, a dictionary from labels to sentences.
"""
