"""The command line `oq`: a thin layer over `Queue`."""
