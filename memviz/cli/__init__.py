"""The commands of ``python -m memviz``, one file each."""
