"""JSON Schema (draft 2020-12, the part that tools use): `compile.compile_schema` is the way in. Loaded when first needed."""
