"""What a model says of a cohort: masks, probabilities and embeddings."""
