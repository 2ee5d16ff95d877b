"""Rules that the product keeps, one sentence each; the tree mirrors the packages."""
