"""The pilot starter: brings a pilot to life on a pod, keeps it company,
outlives it.
"""
