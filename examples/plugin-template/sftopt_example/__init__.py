"""An example plug-in of sftopt: one solver and one formulation."""
