"""What the papers share. Imports no paper."""
