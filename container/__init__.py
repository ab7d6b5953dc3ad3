"""Container engines behind one contract; everything that touches Docker or
Kubernetes is here.

This package knows nothing of pilots, jobs or servers: `contract.py` is the
first file to read.
"""
