"""Problem (13) as Pyomo models: a file for each formulation and each constraint family."""
