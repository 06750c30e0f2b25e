"""Claims of the papers on a fixed grid of cells: reached where, not where, assumed what."""

from sftopt.studies.reproduce.claims import CLAIMS, Claim
from sftopt.studies.reproduce.findings import Finding
from sftopt.studies.reproduce.run import Reproduction, reproduce

__all__ = ["CLAIMS", "Claim", "Finding", "Reproduction", "reproduce"]
