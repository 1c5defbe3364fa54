"""Families of our own, one file each, in English and Korean."""
