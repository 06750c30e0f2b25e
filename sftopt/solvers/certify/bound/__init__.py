"""The proven side of certify: bounds on boxes. Imports nothing of ``plan``."""
