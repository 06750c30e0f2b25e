"""Seconds to a target level of the metric: rounds by a law, times the best round at each loss."""

from sftopt.studies.time_to_target.answer import LossLevel, TimeToTarget
from sftopt.studies.time_to_target.search import time_to_target

__all__ = ["LossLevel", "TimeToTarget", "time_to_target"]
