"""Where the tumor is, and how far it is from a bundle."""
