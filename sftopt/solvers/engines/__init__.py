"""Engines of others behind one interface: one file for each, and the bridges they share."""
