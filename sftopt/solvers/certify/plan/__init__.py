"""The plan side of certify: heuristics whose plans are judged. Imports nothing of ``bound``."""
