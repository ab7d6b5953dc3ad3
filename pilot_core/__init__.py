"""The pilot: takes jobs from PanDA and sees each one through to its final
report.
"""

__version__ = "4.0.0"
