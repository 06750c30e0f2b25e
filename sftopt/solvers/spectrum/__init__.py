"""The small problem (14) solved exactly: compiled root searches, their slopes, and the solver on them."""
