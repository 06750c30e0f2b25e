"""Algebraic models of the planning problem; MODEL.md maps every equation to its function."""
