"""Solvers behind one interface; every figure they return is recomputed by the judge."""
