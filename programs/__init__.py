"""Programs and the jobs that run them. `jobsite/programs` is a link to this folder."""

if __name__ == "programs":  # a second copy of its modules and models
    raise ImportError("programs is no package of its own: import jobsite.programs")
