"""Doubles and builders for people who test their own generators, screens and stores against the guard."""
