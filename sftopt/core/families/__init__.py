"""Families of instances: seeded generators with their sources, for any number of devices.

``python -m sftopt.core.families`` writes the bundled instances, one of each family.
"""

from sftopt.core.families.registry import FAMILIES, Family, family_of, generate

__all__ = ["FAMILIES", "Family", "family_of", "generate"]
