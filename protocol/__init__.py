"""What crosses the wire, and nothing else.

The scorer, the coordinator and the trainer all import this package and never each other:
they meet over HTTP only, in the tensors, messages and problems that are defined here.
"""
