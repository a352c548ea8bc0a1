"""How far bundles are from healthy ones."""
