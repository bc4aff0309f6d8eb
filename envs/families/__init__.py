"""The task families, one module for each family or pair of siblings. ``registry.py`` lists them."""
