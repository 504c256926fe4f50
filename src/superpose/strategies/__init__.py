"""The built-in strategies: one small file an idea; listing this folder registers them."""
