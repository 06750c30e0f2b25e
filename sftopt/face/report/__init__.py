"""Pages that people open in a browser: one HTML file each, no script, nothing from a network."""

from sftopt.face.report.page import Page, Section, write_page

__all__ = ["Page", "Section", "write_page"]
