"""Vision towers of other libraries, family by family: how their settings and weights become the hooked tower's.

An adapter is one file. It recognises a tower, reads its settings into a `VisionConfig`, refuses by name what it does
not understand, and lists which tensor of the original is which weight here. Adding a family is adding a file and a line
in `FAMILIES`.
"""
