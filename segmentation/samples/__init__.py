"""What a network sees: samples, their cache, augmentation and patches."""
