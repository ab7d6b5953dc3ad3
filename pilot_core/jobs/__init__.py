"""Where jobs come from: pulled from the server, or pushed as a file by
Harvester.
"""
