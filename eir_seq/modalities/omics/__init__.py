"""Genotypes of single-nucleotide polymorphisms (SNPs)."""
