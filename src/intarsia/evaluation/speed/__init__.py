"""Speed: what is counted exactly on any machine, and what is measured as a ratio in one process.

Importing this package is cheap; torch is imported when something is counted or measured.
"""
