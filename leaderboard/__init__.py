"""The results of all methods, and their tables, pictures and page. It imports no baseline."""
