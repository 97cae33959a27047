"""What any room may use, and knows no other.

Files that a kill leaves whole, work at intervals, checks, words for people, and the names that users may give. Its modules
are its faces.
"""
