"""The command line, by what it prints and the code it exits with."""
