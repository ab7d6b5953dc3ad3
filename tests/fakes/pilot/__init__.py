"""A pilot that does as its environment says, as an installed package or a
tarball.
"""
