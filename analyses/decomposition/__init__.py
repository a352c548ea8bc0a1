"""How much of the drop is systematic, and how much is the tumor's."""
