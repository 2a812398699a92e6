"""Estimates what a row needs before it is run (memory, hours, dollars, and on which GPU), and how far off that was."""
