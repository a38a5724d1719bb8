"""What the commands of ``python -m memviz`` do, one file a command."""
