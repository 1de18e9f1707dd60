"""The JSON answers and bodies, as `/docs` shows them, in a file named as the routes that they belong to."""
