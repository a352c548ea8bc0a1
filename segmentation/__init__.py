"""The segmentation core: networks, training, transfer and prediction (imports torch)."""
