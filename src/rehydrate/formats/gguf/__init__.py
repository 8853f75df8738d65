"""GGUF, as llama.cpp has its models: `reading` is the format; `values` and `blocks` are the types inside it."""
