//! Pipeline files to one canonical plan: parsing with positions, expressions, matrix, conditions.
