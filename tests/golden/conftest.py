collect_ignore_glob = ["*/make.py"]  # runs in an environment of its own
