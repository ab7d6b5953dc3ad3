"""A PanDA in a box: one process that answers pilots the way a real server
does.

`LocalPanda` (server.py) is the whole of it. For tests it is the fake server,
for a physicist with a payload to debug it is the production system in small.
Standard library only.
"""
