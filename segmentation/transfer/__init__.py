"""Models adapted to patients."""
