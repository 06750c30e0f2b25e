"""Races: solvers against each other on the same instances, with the judge's word on every plan.

A suite file (:mod:`suite`) is expanded into a plan (:mod:`plan`), whose runs are made one at a time
in agents (:mod:`agent`) by the runner; rows are appended as runs end. :mod:`checks` finds what is
wrong by comparing rows.
"""
