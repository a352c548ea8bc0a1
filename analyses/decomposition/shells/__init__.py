"""The voxel-wise estimator: errors by distance to the tumor."""
