"""The small problem (14) of one round, at fixed cuts, modes and keep fractions."""
