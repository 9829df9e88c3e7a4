"""The HTTP application (FastAPI) around the library."""
