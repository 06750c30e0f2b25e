"""Experiments over instances: simulations over time, closed loops. Rows go in, rows come out."""
