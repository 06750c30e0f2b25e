"""The small problem (14): the solver on :mod:`sftopt.core.least_time`, and slopes of its times."""
