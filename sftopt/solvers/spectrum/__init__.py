"""The small problem (14) solved exactly: compiled root searches, and the solver on them."""
