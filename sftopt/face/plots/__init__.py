"""Figures: for papers by matplotlib (PDF, PNG), for looking around by plotly (one HTML file)."""
