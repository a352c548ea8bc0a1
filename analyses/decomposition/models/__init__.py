"""Other models than the first: fine-tuned from it, or source models of their own."""
