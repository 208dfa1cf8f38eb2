"""Stored results as pages: one self-contained HTML file each, made from dictionaries and files, with nothing learned or estimated here."""
