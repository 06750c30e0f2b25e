"""An example plug-in of sftopt: one solver, one formulation and one scheme."""
