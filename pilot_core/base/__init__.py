"""Small tools without any knowledge of pilots: time, threads, files,
processes, secrets.
"""
