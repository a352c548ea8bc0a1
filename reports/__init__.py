"""Findings in, HTML out."""
