"""Round delay against the server's energy: the best plan at each speed the server can be set to."""

from sftopt.studies.pareto.curve import Curve, pareto
from sftopt.studies.pareto.points import CurvePoint

__all__ = ["Curve", "CurvePoint", "pareto"]
