"""The algorithms, one file each. The only folder that imports torch."""
