"""Is the registry the one that is known, whole, and its clock right?"""
