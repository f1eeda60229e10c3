"""Scripts of the project; run them by make."""
