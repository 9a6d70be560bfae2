"""Two or more reports become a comparison, and a comparison a verdict."""
