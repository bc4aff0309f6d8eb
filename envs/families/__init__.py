"""The task families, one definition each. ``registry.py`` lists them."""
