"""Intervals, tests and fits that every study uses."""
