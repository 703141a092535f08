"""Ensembles: members, the rules that combine them, and how they compare with the best single one."""
