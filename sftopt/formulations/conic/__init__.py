"""Problem (13) as CVXPY problems: one file for each formulation, shared frame, links and grids."""
