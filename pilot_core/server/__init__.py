"""The PanDA server: `wire_*` the words, `http` say it once, `client` insist on
it.
"""
