"""Models as text for other solvers, and the solutions that those write."""
