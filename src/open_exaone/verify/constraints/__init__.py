"""The 25 instruction types of IFEval, strict and loose, in English and Korean (docs/judging-constraints.md)."""
