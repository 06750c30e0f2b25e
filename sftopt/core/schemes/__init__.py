"""Schemes as data: what each published system and baseline leaves free, and what it fixes."""
