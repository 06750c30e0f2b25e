"""Problem (13) as Pyomo models: one file for each formulation, one for each family of constraints."""
