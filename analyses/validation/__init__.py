"""The recovery study of the estimators."""
