"""What CRIC knows of queues and storages: files, the server's cache, CRIC
itself.
"""
