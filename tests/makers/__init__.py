"""Makers that tests share: cohorts, score tables, models and reports."""
